"""Image lists as JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image, dump_image, parse_images


def test_an_image_list_is_read() -> None:
    data = [
        {
            "zarr_url": "/data/plate.zarr/B/03/0_mip/",
            "origin": "/data/plate.zarr/B/03/0/",
            "types": {"is_3D": False},
            "attributes": {"well": "B03", "cycle": 1, "dose": 0.5, "control": True},
        },
        {"zarr_url": "/data/plate.zarr/B/03/0"},
    ]

    assert parse_images(data, zarr_dir="/data") == [
        Image(
            "/data/plate.zarr/B/03/0_mip",
            "/data/plate.zarr/B/03/0",
            {"well": "B03", "cycle": 1, "dose": 0.5, "control": True},
            {"is_3D": False},
        ),
        Image("/data/plate.zarr/B/03/0", None, {}, {}),
    ]


def test_an_empty_list_is_one() -> None:
    assert parse_images([]) == []


def test_what_is_written_is_read_back_through_json() -> None:
    images = [
        Image("/data/a b/ü", "/data/x", {"n": 10**30, "f": 1.0, "i": 1, "b": True}, {"is_3D": True}),
        Image("/data/b"),
    ]

    again = parse_images(json.loads(json.dumps([dump_image(image) for image in images])))

    assert again == images
    assert [type(value) for value in again[0].attributes.values()] == [int, float, int, bool]


def test_an_image_is_written_with_all_four_keys() -> None:
    assert dump_image(Image("/data/a")) == {
        "zarr_url": "/data/a",
        "origin": None,
        "types": {},
        "attributes": {},
    }


def test_what_is_read_shares_nothing_with_what_it_was_read_from() -> None:
    item: dict[str, Any] = {"zarr_url": "/data/a", "attributes": {"well": "B03"}, "types": {"is_3D": True}}
    (image,) = parse_images([item])

    item["attributes"]["well"] = "C04"
    item["types"].clear()

    assert image == Image("/data/a", None, {"well": "B03"}, {"is_3D": True})


def test_an_image_cannot_be_changed_by_accident() -> None:
    with pytest.raises(FrozenInstanceError):
        Image("/data/a").zarr_url = "/data/b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("/data/a", "images[1]: must be an object with a zarr_url, not '/data/a'"),
        (None, "images[1]: must be an object with a zarr_url, not None"),
        ({}, "images[1]: has no zarr_url"),
        ({"zarr_url": "a"}, "images[1] ('a'): zarr_url: 'a' is neither an absolute path"),
        ({"zarr_url": None}, "images[1] (None): zarr_url: None is not a path"),
        ({"zarr_url": "/data/a", "origin": "b"}, "images[1] ('/data/a'): origin: 'b' is neither"),
        ({"zarr_url": "/data/a", "path": "x"}, "images[1] ('/data/a'): has unknown keys ['path']"),
        ({"zarr_url": "/data/a", "attributes": None}, "attributes must be an object, not None"),
        ({"zarr_url": "/data/a", "attributes": {"well": None}}, "attribute 'well' must be a text, a finite"),
        ({"zarr_url": "/data/a", "attributes": {"well": ["B03"]}}, "attribute 'well' must be"),
        ({"zarr_url": "/data/a", "attributes": {"dose": float("nan")}}, "attribute 'dose' must be"),
        ({"zarr_url": "/data/a", "attributes": {"dose": float("-inf")}}, "attribute 'dose' must be"),
        ({"zarr_url": "/data/a", "attributes": {3: "x"}}, "3 cannot name an attribute"),
        ({"zarr_url": "/data/a", "types": []}, "types must be an object, not []"),
        ({"zarr_url": "/data/a", "types": {"is_3D": 1}}, "type 'is_3D' must be true or false, not 1"),
        ({"zarr_url": "/data/a", "types": {"is_3D": None}}, "type 'is_3D' must be true or false, not None"),
        ({"zarr_url": "/data/zero/"}, "images[1]: '/data/zero' is in the list twice"),
        ({"zarr_url": "/data"}, "images[1]: '/data' does not lie below zarr_dir '/data'"),
        ({"zarr_url": "/data_2/a"}, "images[1]: '/data_2/a' does not lie below zarr_dir '/data'"),
    ],
)
def test_an_image_that_breaks_a_rule_is_named(item: object, problem: str) -> None:
    with pytest.raises(ImageListError) as raised:
        parse_images([{"zarr_url": "/data/zero"}, item], zarr_dir="/data")

    assert problem in str(raised.value)


@pytest.mark.parametrize("data", [None, {}, {"images": []}, "[]"])
def test_what_is_no_list_is_refused(data: object) -> None:
    with pytest.raises(ImageListError, match="An image list must be a list"):
        parse_images(data)
