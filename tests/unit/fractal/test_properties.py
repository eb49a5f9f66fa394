"""What holds for the rules whatever the images and outputs are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.filters import filter_images
from fractal_airflow.fractal.images import Image, Scalar, dump_image, parse_images
from fractal_airflow.fractal.merging import (
    UnitResult,
    apply_output,
    input_statuses,
    merge_outputs,
    merge_step,
)
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput, parse_task_output
from fractal_airflow.fractal.urls import is_below, normalise_url

ZARR_DIR = "/data"
URLS = [f"/data/{name}" for name in "abcde"]
QUICK = settings(max_examples=60, deadline=None)

urls = st.sampled_from(URLS)
values: list[Scalar] = [0, 1, True, False, 1.0, 0.5, 10**30, "", "B03", "1"]
scalars: st.SearchStrategy[Scalar] = st.sampled_from(values)
keys = st.sampled_from(["well", "cycle"])
types = st.dictionaries(st.sampled_from(["is_3D", "masked"]), st.booleans())

Made = TypeVar("Made", Image, ImageUpdate)


def lists_of(make: type[Made], scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Made]]:
    """Lists of images, or of updates of them, in any order, no path twice."""
    origins = st.sampled_from([None, "/elsewhere/raw", *URLS])
    one = st.builds(make, urls, origins, st.dictionaries(keys, scalars), types)
    return st.lists(one, unique_by=lambda each: each.zarr_url)


image_lists = lists_of(Image, scalars)
update_lists = lists_of(ImageUpdate, st.none() | scalars)


@st.composite
def lists_with_outputs(draw: st.DrawFn) -> tuple[list[Image], TaskOutput]:
    """An image list, and an output that may be applied to it."""
    images, updates = draw(image_lists), draw(update_lists)
    updated = {update.zarr_url for update in updates}
    removable = [image.zarr_url for image in images if image.zarr_url not in updated]
    removals = draw(st.lists(st.sampled_from(removable), unique=True)) if removable else []
    return images, TaskOutput(updates, removals)


def apply(
    images: list[Image], output: TaskOutput, output_types: dict[str, bool] | None = None
) -> list[Image]:
    return apply_output(images, output, zarr_dir=ZARR_DIR, output_types=output_types or {})


def in_json(images: list[Image]) -> str:
    """Tell true, 1 and 1.0 apart, which Python takes for equal."""
    return json.dumps([dump_image(image) for image in images], sort_keys=True)


@QUICK
@given(lists_with_outputs(), types)
def test_the_next_list_has_each_image_once_in_the_order_of_addition(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool]
) -> None:
    images, output = case

    after = [image.zarr_url for image in apply(images, output, output_types)]

    kept = [image.zarr_url for image in images if image.zarr_url not in output.image_list_removals]
    new = [each.zarr_url for each in output.image_list_updates if each.zarr_url not in kept]
    assert after == kept + new


@QUICK
@given(lists_with_outputs(), types)
def test_images_that_no_output_names_stay_the_very_same(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool]
) -> None:
    images, output = case
    named = {update.zarr_url for update in output.image_list_updates} | set(output.image_list_removals)

    after = {image.zarr_url: image for image in apply(images, output, output_types)}

    for image in images:
        if image.zarr_url not in named:
            assert after[image.zarr_url] is image


@QUICK
@given(lists_with_outputs(), types)
def test_updated_images_have_what_the_update_says_and_no_null(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool]
) -> None:
    images, output = case

    after = {image.zarr_url: image for image in apply(images, output, output_types)}

    for update in output.image_list_updates:
        image = after[update.zarr_url]
        assert None not in image.attributes.values()
        for key, value in update.attributes.items():
            assert repr(image.attributes.get(key)) == repr(value)
        assert image.types.items() >= {**update.types, **output_types}.items()


@QUICK
@given(lists_with_outputs(), types)
def test_the_given_list_is_never_changed(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool]
) -> None:
    images, output = case
    before, output_before = in_json(images), repr(output)

    apply(images, output, output_types)

    assert in_json(images) == before
    assert repr(output) == output_before


@QUICK
@given(
    lists_with_outputs(),
    st.sampled_from(
        [
            TaskOutput([ImageUpdate("/data_other/x")]),
            TaskOutput([ImageUpdate("/data")]),
            TaskOutput([], ["/data/missing"]),
            TaskOutput([ImageUpdate("/data/twice")], ["/data/twice"]),
            TaskOutput([ImageUpdate("/data/twice"), ImageUpdate("/data/twice", None, {"n": 1})]),
        ]
    ),
    st.booleans(),
)
def test_nothing_is_changed_by_a_step_that_breaks_a_rule(
    case: tuple[list[Image], TaskOutput], bad: TaskOutput, bad_first: bool
) -> None:
    images, output = case
    before, outputs = in_json(images), [bad, output] if bad_first else [output, bad]

    with pytest.raises(ImageListError):
        merge_step(
            images,
            [UnitResult(None, each) for each in outputs],
            zarr_dir=ZARR_DIR,
            input_urls=[image.zarr_url for image in images],
            output_types={"masked": True},
        )

    assert in_json(images) == before


@QUICK
@given(image_lists, update_lists, types)
def test_later_updates_see_the_effect_of_earlier_ones(
    images: list[Image], updates: list[ImageUpdate], output_types: dict[str, bool]
) -> None:
    one_by_one = images
    for update in updates:
        one_by_one = apply(one_by_one, TaskOutput([update]), output_types)

    assert in_json(apply(images, TaskOutput(updates), output_types)) == in_json(one_by_one)


@QUICK
@given(lists_with_outputs(), types, st.integers(0, len(URLS)), st.integers(0, len(URLS)))
def test_merging_in_two_halves_equals_merging_at_once(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool], updates_cut: int, removals_cut: int
) -> None:
    images, output = case
    first = TaskOutput(output.image_list_updates[:updates_cut], output.image_list_removals[:removals_cut])
    second = TaskOutput(output.image_list_updates[updates_cut:], output.image_list_removals[removals_cut:])
    # At once, all removals come after all updates: an origin that the first half removes would still be there.
    assume(not {update.origin for update in second.image_list_updates} & set(first.image_list_removals))

    at_once = apply(images, merge_outputs([first, second]), output_types)

    assert in_json(apply(apply(images, first, output_types), second, output_types)) == in_json(at_once)


def from_what_stays(updates: list[ImageUpdate]) -> list[ImageUpdate]:
    """Leave out origins that are updated later on: the second time, they are not what they were the first."""
    later = {update.zarr_url: index for index, update in enumerate(updates)}
    return [
        replace(update, origin=None) if later.get(update.origin or "", 0) > index else update
        for index, update in enumerate(updates)
    ]


@QUICK
@given(lists_with_outputs(), types)
def test_merging_twice_equals_merging_once(
    case: tuple[list[Image], TaskOutput], output_types: dict[str, bool]
) -> None:
    images, output = case
    output = TaskOutput(from_what_stays(output.image_list_updates), output.image_list_removals)
    removed = frozenset(output.image_list_removals)

    once = apply(images, output, output_types)
    twice = apply_output(once, output, zarr_dir=ZARR_DIR, output_types=output_types, already_removed=removed)

    assert in_json(twice) == in_json(once)


@QUICK
@given(
    st.lists(st.builds(TaskOutput, update_lists, st.lists(urls, max_size=2)), max_size=3), st.integers(0, 3)
)
def test_outputs_may_be_merged_in_groups(outputs: list[TaskOutput], cut: int) -> None:
    def merged_in_groups() -> TaskOutput:
        return merge_outputs([merge_outputs(outputs[:cut]), merge_outputs(outputs[cut:])])

    try:
        at_once = merge_outputs(outputs)
    except ImageListError:
        with pytest.raises(ImageListError):
            merged_in_groups()
    else:
        assert repr(merged_in_groups()) == repr(at_once)


@QUICK
@given(lists_with_outputs(), st.integers(1, 3))
def test_exact_repeats_of_an_output_change_nothing(case: tuple[list[Image], TaskOutput], times: int) -> None:
    output = case[1]

    assert merge_outputs([output] * times) == output


@QUICK
@given(image_lists, st.lists(st.booleans(), min_size=len(URLS), max_size=len(URLS)), st.booleans())
def test_a_step_that_returns_nothing_marks_the_images_that_are_done_and_no_other(
    images: list[Image], fails: list[bool], edited: bool
) -> None:
    inputs = [image.zarr_url for image in images]
    results = [
        UnitResult(url, None if bad else TaskOutput(), bad) for url, bad in zip(inputs, fails, strict=False)
    ]

    after = merge_step(images, results, zarr_dir=ZARR_DIR, input_urls=inputs, output_types={"new": edited})

    statuses = input_statuses(inputs, results)
    for before, image in zip(images, after, strict=True):
        if statuses[image.zarr_url] == "failed":
            assert image is before
        else:
            assert image == Image(
                before.zarr_url, before.origin, before.attributes, {**before.types, "new": edited}
            )


@QUICK
@given(
    st.lists(urls, unique=True),
    st.lists(st.builds(UnitResult, st.none() | urls, st.just(None), st.booleans())),
)
def test_statuses_follow_the_units(inputs: list[str], results: list[UnitResult]) -> None:
    statuses = input_statuses(inputs, results)

    assert list(statuses) == inputs
    for url, status in statuses.items():
        own = [result.failed for result in results if result.zarr_url == url]
        decisive = own or [result.failed for result in results]
        assert status == ("failed" if any(decisive) else "done")


@QUICK
@given(image_lists, types, st.dictionaries(keys, st.lists(scalars, min_size=1, max_size=3), max_size=2))
def test_filters_choose_images_and_do_nothing_else(
    images: list[Image], type_filters: dict[str, bool], attribute_filters: dict[str, list[Scalar]]
) -> None:
    def is_one_of(value: Scalar, wanted: list[Scalar]) -> bool:
        return any(
            value == each and (value is each or bool not in map(type, (value, each))) for each in wanted
        )

    def passes(image: Image) -> bool:
        return all(image.types.get(key, False) is value for key, value in type_filters.items()) and all(
            key in image.attributes and is_one_of(image.attributes[key], wanted)
            for key, wanted in attribute_filters.items()
        )

    passed = filter_images(images, type_filters, attribute_filters)

    assert [id(image) for image in passed] == [id(image) for image in images if passes(image)]


@QUICK
@given(image_lists, update_lists)
def test_json_keeps_images_and_updates_as_they_are(images: list[Image], updates: list[ImageUpdate]) -> None:
    written = json.dumps(
        {"image_list_updates": [{name: getattr(each, name) for name in each.__slots__} for each in updates]}
    )

    assert in_json(parse_images(json.loads(in_json(images)))) == in_json(images)
    assert repr(parse_task_output(json.loads(written)).image_list_updates) == repr(updates)


@QUICK
@given(
    st.sampled_from(["/", "s3://bucket/"]),
    st.lists(st.sampled_from(["", ".", "a", "a.b", ".a", "..b", "ü ", "x\n"]), max_size=6),
)
def test_a_path_keeps_its_parts_and_its_normal_form_stays(start: str, parts: list[str]) -> None:
    named = [part for part in parts if part not in ("", ".")]

    normal = normalise_url(start + "/".join(parts))

    assert normal == start + "/".join(named) or (not named and normal == (start.rstrip("/") or "/"))
    assert normalise_url(normal) == normal
    assert is_below(normalise_url(normal + "/x"), normal)
    assert not is_below(normal, normal)
