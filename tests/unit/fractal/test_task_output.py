"""What commands return, and how what breaks the schema is reported."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fractal_airflow.exceptions import TaskOutputValidationError
from fractal_airflow.fractal.task_output import (
    ImageUpdate,
    ParallelizationItem,
    TaskOutput,
    parse_init_output,
    parse_task_output,
)


def test_a_task_output_is_read() -> None:
    data = {
        "image_list_updates": [
            {
                "zarr_url": "/data/a_mip/",
                "origin": "/data/a",
                "attributes": {"well": "B03", "n": 1, "dose": 0.5, "ok": True, "old": None},
                "types": {"is_3D": False},
            },
            {"zarr_url": "s3://bucket//b"},
        ],
        "image_list_removals": ["/data/c/", "/data/c"],
    }

    assert parse_task_output(data) == TaskOutput(
        [
            ImageUpdate(
                "/data/a_mip",
                "/data/a",
                {"well": "B03", "n": 1, "dose": 0.5, "ok": True, "old": None},
                {"is_3D": False},
            ),
            ImageUpdate("s3://bucket/b", None, {}, {}),
        ],
        ["/data/c", "/data/c"],
    )


@pytest.mark.parametrize("data", [None, {}, {"image_list_updates": [], "image_list_removals": []}])
def test_nothing_is_an_empty_output(data: object) -> None:
    assert parse_task_output(data) == TaskOutput([], [])


def test_an_origin_of_null_is_none() -> None:
    output = parse_task_output({"image_list_updates": [{"zarr_url": "/data/a", "origin": None}]})

    assert output.image_list_updates == [ImageUpdate("/data/a")]


def test_whole_numbers_of_any_size_are_kept() -> None:
    update = {"zarr_url": "/data/a", "attributes": {"n": 10**400}}

    assert parse_task_output({"image_list_updates": [update]}).image_list_updates[0].attributes == {
        "n": 10**400
    }


def test_unknown_keys_of_updates_are_ignored_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    updates = [{"zarr_url": "/data/a"}, {"zarr_url": "/data/b", "path": 1}, {"zarr_url": "/data/c", "id": 2}]

    with caplog.at_level(logging.WARNING):
        output = parse_task_output({"image_list_updates": updates})

    assert [update.zarr_url for update in output.image_list_updates] == ["/data/a", "/data/b", "/data/c"]
    assert caplog.messages == ["Unknown keys ['id', 'path'] are ignored in 2 updates, first that of /data/b"]


@pytest.mark.parametrize("data", [[], [{}], "done", 1, True])
def test_what_is_no_object_breaks_the_schema(data: object) -> None:
    with pytest.raises(TaskOutputValidationError, match="The task output must be an object"):
        parse_task_output(data)
    with pytest.raises(TaskOutputValidationError, match="The init output must be an object"):
        parse_init_output(data)


def test_other_keys_break_the_schema() -> None:
    with pytest.raises(TaskOutputValidationError, match=r"task output has unknown keys \['filters'\]"):
        parse_task_output({"image_list_updates": [], "filters": {}})
    with pytest.raises(
        TaskOutputValidationError, match=r"init output has unknown keys \['image_list_updates'\]"
    ):
        parse_init_output({"image_list_updates": []})


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        (None, "must be an object with a zarr_url, not None"),
        ("/data/a", "must be an object with a zarr_url, not '/data/a'"),
        ({"origin": "/data/a"}, "has no zarr_url"),
        ({"zarr_url": "a"}, "zarr_url: 'a' is neither an absolute path"),
        ({"zarr_url": "/data/../a"}, "zarr_url: '/data/../a' has '..' in it"),
        ({"zarr_url": "/data/a", "origin": 3}, "origin: 3 is not a path"),
        ({"zarr_url": "/data/a", "attributes": []}, "attributes must be an object, not []"),
        ({"zarr_url": "/data/a", "attributes": None}, "attributes must be an object, not None"),
        ({"zarr_url": "/data/a", "attributes": {"w": {}}}, "attribute 'w' must be a text"),
        (
            {"zarr_url": "/data/a", "attributes": {"w": float("inf")}},
            "attribute 'w' must be a text, a finite",
        ),
        ({"zarr_url": "/data/a", "types": None}, "types must be an object, not None"),
        ({"zarr_url": "/data/a", "types": {"t": None}}, "type 't' must be true or false, not None"),
        ({"zarr_url": "/data/a", "types": {"t": 0}}, "type 't' must be true or false, not 0"),
    ],
)
def test_a_broken_update_is_named_by_its_place_and_field(update: object, problem: str) -> None:
    with pytest.raises(TaskOutputValidationError) as raised:
        parse_task_output({"image_list_updates": [{"zarr_url": "/data/zero"}, update]})

    assert f"\nimage_list_updates[1]: {problem}" in str(raised.value)


def test_every_broken_item_is_named() -> None:
    data = {
        "image_list_updates": [{"zarr_url": "a"}, {"zarr_url": "/data/b"}, 3],
        "image_list_removals": ["/data/c", "d", None],
    }

    with pytest.raises(TaskOutputValidationError) as raised:
        parse_task_output(data)

    lines = str(raised.value).splitlines()[1:]
    assert [line.partition(":")[0] for line in lines] == [
        "image_list_updates[0]",
        "image_list_updates[2]",
        "image_list_removals[1]",
        "image_list_removals[2]",
    ]


@pytest.mark.parametrize("key", ["image_list_updates", "image_list_removals"])
@pytest.mark.parametrize("value", [None, {}, "/data/a"])
def test_what_should_be_a_list_must_be_one(key: str, value: object) -> None:
    with pytest.raises(TaskOutputValidationError, match=f"{key}: must be a list"):
        parse_task_output({key: value})


def test_an_error_of_thousands_of_items_stays_short() -> None:
    with pytest.raises(TaskOutputValidationError, match=r"and 980 more$") as raised:
        parse_task_output({"image_list_removals": ["x"] * 1000})

    assert len(str(raised.value)) < 3000


def test_a_parallelization_list_is_read() -> None:
    data = {
        "parallelization_list": [
            {"zarr_url": "/data/a/", "init_args": {"channels": [1, 2], "deep": {"x": None}}},
            {"zarr_url": "/data/b"},
        ]
    }

    assert parse_init_output(data) == [
        ParallelizationItem("/data/a", {"channels": [1, 2], "deep": {"x": None}}),
        ParallelizationItem("/data/b", {}),
    ]


@pytest.mark.parametrize("data", [None, {}, {"parallelization_list": []}])
def test_an_init_may_return_nothing(data: object) -> None:
    assert parse_init_output(data) == []


def test_exact_repeats_of_an_item_are_dropped_where_the_first_one_stays() -> None:
    def item(url: str, **init_args: Any) -> dict[str, Any]:
        return {"zarr_url": url, "init_args": init_args}

    data = [item("/data/a", x=1, y=2), item("/data/b"), item("/data/a/", y=2, x=1), {"zarr_url": "/data/b"}]

    assert parse_init_output({"parallelization_list": data}) == [
        ParallelizationItem("/data/a", {"x": 1, "y": 2}),
        ParallelizationItem("/data/b", {}),
    ]


def test_items_that_differ_in_a_values_type_alone_are_no_repeats() -> None:
    data = [{"zarr_url": "/data/a", "init_args": {"x": value}} for value in (1, True, 1.0, "1", [1], [True])]

    items = parse_init_output({"parallelization_list": data})

    assert [repr(item.init_args["x"]) for item in items] == ["1", "True", "1.0", "'1'", "[1]", "[True]"]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("/data/a", "must be an object with a zarr_url, not '/data/a'"),
        ({"init_args": {}}, "must be an object with a zarr_url"),
        ({"zarr_url": "a"}, "zarr_url: 'a' is neither"),
        ({"zarr_url": "/data/a", "init_args": None}, "init_args must be an object, not None"),
        ({"zarr_url": "/data/a", "init_args": []}, "init_args must be an object, not []"),
        ({"zarr_url": "/data/a", "args": {}}, "has unknown keys ['args']"),
        ({"zarr_url": "/data/a", "init_args": {"x": [float("nan")]}}, "init_args cannot be written as JSON"),
        ({"zarr_url": "/data/a", "init_args": {"x": object()}}, "init_args cannot be written as JSON"),
    ],
)
def test_a_broken_item_is_named_by_its_place(item: object, problem: str) -> None:
    with pytest.raises(TaskOutputValidationError) as raised:
        parse_init_output({"parallelization_list": [{"zarr_url": "/data/zero"}, item]})

    assert f"\nparallelization_list[1]: {problem}" in str(raised.value)
