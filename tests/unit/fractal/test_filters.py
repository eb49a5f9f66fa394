"""Which images a step gets."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_airflow.exceptions import EmptyImageListError, WorkflowError
from fractal_airflow.fractal.filters import (
    filter_images,
    parse_attribute_filters,
    parse_type_filters,
    select_images,
    step_type_filters,
)
from fractal_airflow.fractal.images import Image, Scalar


def with_value(value: Scalar) -> Image:
    return Image(f"/data/{value!r}", None, {"n": value})


def test_a_type_passes_where_it_equals_the_filter_and_an_absent_one_counts_as_false() -> None:
    flat, deep, unsaid = (
        Image("/data/flat", types={"is_3D": False}),
        Image("/data/deep", types={"is_3D": True}),
        Image("/data/unsaid"),
    )

    assert filter_images([flat, deep, unsaid], {"is_3D": False}, {}) == [flat, unsaid]
    assert filter_images([flat, deep, unsaid], {"is_3D": True}, {}) == [deep]


def test_an_attribute_passes_where_its_value_is_in_the_list_and_an_absent_one_does_not() -> None:
    wells = [Image(f"/data/{well}", None, {"well": well}) for well in ("B03", "B04", "C03")]

    passed = filter_images([*wells, Image("/data/unsaid")], {}, {"well": ["C03", "B03"]})

    assert passed == [wells[0], wells[2]]


def test_all_filters_must_pass() -> None:
    images = [
        Image("/data/a", None, {"well": "B03", "cycle": 0}, {"is_3D": True}),
        Image("/data/b", None, {"well": "B03", "cycle": 1}, {"is_3D": True}),
        Image("/data/c", None, {"well": "B03", "cycle": 0}),
    ]

    assert filter_images(images, {"is_3D": True}, {"well": ["B03"], "cycle": [0]}) == [images[0]]


def test_without_filters_all_pass_in_their_order() -> None:
    images = [Image(f"/data/{name}") for name in "bca"]

    assert filter_images(iter(images), {}, {}) == images


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        ([1], [1, 1.0]),
        ([1.0], [1, 1.0]),
        ([True], [True]),
        ([0], [0, 0.0]),
        ([False], [False]),
        (["1"], ["1"]),
        ([True, False], [True, False]),
    ],
)
def test_1_and_1_point_0_are_the_same_value_and_true_is_neither(
    wanted: list[Scalar], passing: list[Scalar]
) -> None:
    images = [with_value(value) for value in (1, 1.0, True, 0, 0.0, False, "1", "True")]

    passed = filter_images(images, {}, parse_attribute_filters({"n": wanted}))

    assert [repr(image.attributes["n"]) for image in passed] == [repr(value) for value in passing]


def test_large_whole_numbers_are_told_apart() -> None:
    images = [with_value(2**53), with_value(2**53 + 1)]

    assert filter_images(images, {}, {"n": [2**53 + 1]}) == [images[1]]


def test_a_steps_type_filters_overlay_the_runs_for_that_step_alone() -> None:
    current = {"is_3D": True, "corrected": True}

    filters = step_type_filters(current, {"is_3D": False}, {"registered": True}, task="Segment")

    assert filters == {"is_3D": False, "corrected": True, "registered": True}
    assert current == {"is_3D": True, "corrected": True}


def test_task_and_workflow_may_say_the_same() -> None:
    assert step_type_filters({}, {"is_3D": True}, {"is_3D": True}, task="Project") == {"is_3D": True}


def test_task_and_workflow_must_not_contradict_each_other() -> None:
    with pytest.raises(
        WorkflowError, match=r"^Project: the task asks for images with is_3D=True, b=False, but"
    ):
        step_type_filters({}, {"is_3D": True, "b": False}, {"b": True, "is_3D": False}, task="Project")


def test_selecting_is_filtering() -> None:
    images = [Image("/data/a"), Image("/data/b", types={"is_3D": True})]

    assert select_images(images, {"is_3D": True}, {}, task="Project") == [images[1]]


def test_an_empty_selection_is_an_error_with_the_task_and_both_filter_sets() -> None:
    with pytest.raises(EmptyImageListError) as raised:
        select_images([Image("/data/a")], {"is_3D": True}, {"well": ["B03"]}, task="Project")

    for part in ("Project", "{'is_3D': True}", "{'well': ['B03']}"):
        assert part in str(raised.value)


def test_filters_that_are_absent_are_empty() -> None:
    assert parse_attribute_filters(None) == parse_attribute_filters({}) == {}
    assert parse_type_filters(None) == parse_type_filters({}) == {}


def test_good_filters_are_read() -> None:
    attributes = {"well": ["B03", "B04"], "cycle": [0], "dose": [1, 0.5], "control": [True, False]}

    assert parse_attribute_filters(attributes) == attributes
    assert parse_type_filters({"is_3D": True, "b": False}) == {"is_3D": True, "b": False}


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ([], "Attribute filters must be an object"),
        ("well=B03", "Attribute filters must be an object"),
        ({"well": []}, "Attribute filter 'well' must be a list of at least one value"),
        ({"well": "B03"}, "Attribute filter 'well' must be a list of at least one value, not 'B03'"),
        ({"well": None}, "Attribute filter 'well' must be a list"),
        ({"well": [None]}, "attribute 'well' must be a text"),
        ({"well": [["B03"]]}, "attribute 'well' must be a text"),
        ({"dose": [float("nan")]}, "attribute 'dose' must be a text, a finite number"),
        ({"well": ["B03", 3]}, "Attribute filter 'well' must have values of one type"),
        ({"n": [1, True]}, "Attribute filter 'n' must have values of one type"),
        ({1: ["a"]}, "1 cannot name an attribute"),
    ],
)
def test_bad_attribute_filters_are_named(filters: Any, problem: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        parse_attribute_filters(filters)

    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ([], "types must be an object, not []"),
        ({"is_3D": 1}, "type 'is_3D' must be true or false, not 1"),
        ({"is_3D": "true"}, "type 'is_3D' must be true or false, not 'true'"),
        ({"is_3D": None}, "type 'is_3D' must be true or false, not None"),
        ({1: True}, "type 1 must be true or false"),
    ],
)
def test_bad_type_filters_are_named(filters: Any, problem: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        parse_type_filters(filters)

    assert problem in str(raised.value)
