"""Merging against domain.md written down a second time, naively: any list, any outputs, the same result."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal import Image, ImageUpdate, TaskOutput, UnitResult, dump_image, merge_step

ZARR_DIR = "/data/zarr"
BELOW = [f"{ZARR_DIR}/{name}" for name in ("a", "b", "c", "d")]
# The folder itself, and one whose name only begins like it, are not below it.
URLS = [*BELOW, f"{ZARR_DIR}_other/x", ZARR_DIR]
Record = dict[str, Any]

urls = st.sampled_from(URLS)
origins = st.none() | urls
types = st.dictionaries(st.sampled_from("pq"), st.booleans())
values = st.sampled_from([0, 1, 1.0, False, True, "x"])
attributes = st.dictionaries(st.sampled_from("mn"), values)
updates = st.fixed_dictionaries(
    {
        "zarr_url": urls,
        "origin": origins,
        "attributes": st.dictionaries(st.sampled_from("mn"), values | st.none()),
        "types": types,
    }
)
images = st.lists(
    st.fixed_dictionaries(
        {"zarr_url": st.sampled_from(BELOW), "origin": origins, "types": types, "attributes": attributes}
    ),
    unique_by=lambda image: image["zarr_url"],
)
units = st.lists(
    st.fixed_dictionaries(
        {
            "zarr_url": st.none() | urls,
            "updates": st.lists(updates, max_size=2),
            "removals": st.lists(urls, max_size=1),
            "failed": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(images, units, st.sets(urls), types, st.sets(urls, max_size=1))
def test_any_step_changes_the_image_list_as_the_rules_say(
    images: list[Record],
    units: list[Record],
    inputs: set[str],
    output_types: dict[str, bool],
    removed: set[str],
) -> None:
    input_urls = [image["zarr_url"] for image in images if image["zarr_url"] in inputs]
    before = [Image(**image) for image in copy.deepcopy(images)]

    expected = expected_list(images, units, input_urls, output_types, removed)
    try:
        after = merge_step(
            before,
            [as_result(unit) for unit in units],
            zarr_dir=ZARR_DIR,
            input_urls=input_urls,
            output_types=output_types,
            already_removed=removed,
        )
    except ImageListError:
        after = None

    assert text(None if after is None else [dump_image(image) for image in after]) == text(expected)
    assert text([dump_image(image) for image in before]) == text(images)


def text(images: list[Record] | None) -> str:
    # Python holds True, 1 and 1.0 for equal; in JSON they differ.
    return json.dumps(images, sort_keys=True)


def as_result(unit: Record) -> UnitResult:
    output = TaskOutput([ImageUpdate(**update) for update in unit["updates"]], list(unit["removals"]))
    return UnitResult(unit["zarr_url"], output, unit["failed"])


def expected_list(
    images: list[Record], units: list[Record], inputs: list[str], output_types: Record, removed: set[str]
) -> list[Record] | None:
    """Return the list that the rules ask for, or None for an error."""
    images = copy.deepcopy(images)
    changes, removals = merged(units)
    if any(count > 1 for count in Counter([*(change["zarr_url"] for change in changes), *removals]).values()):
        return None
    if not changes and not removals:
        failed = {unit["zarr_url"] for unit in units if unit["failed"]}
        changes = [empty_update(url) for url in inputs if failed.isdisjoint({url, None})]
    for change in changes:
        if not apply_change(images, change, output_types, removed):
            return None
    for url in removals:
        if not any(image["zarr_url"] == url for image in images) and url not in removed:
            return None
        images = [image for image in images if image["zarr_url"] != url]
    return images


def merged(units: list[Record]) -> tuple[list[Record], list[str]]:
    good = [unit for unit in units if not unit["failed"]]
    removals = {url: None for unit in good for url in unit["removals"]}
    return distinct([change for unit in good for change in unit["updates"]]), list(removals)


def distinct(changes: list[Record]) -> list[Record]:
    kept: list[Record] = []
    for change in changes:
        if not any(is_repeat(change, other) for other in kept):
            kept.append(change)
    return kept


def is_repeat(one: Record, other: Record) -> bool:
    def kinds(change: Record) -> Record:
        return {key: type(value) for key, value in change["attributes"].items()}

    return bool(one == other and kinds(one) == kinds(other))


def apply_change(images: list[Record], change: Record, output_types: Record, removed: set[str]) -> bool:
    by_url = {image["zarr_url"]: image for image in images}
    own, source = by_url.get(change["zarr_url"]), by_url.get(change["origin"], {})
    origin = change["origin"]
    if own and change["origin"] in (None, change["zarr_url"]):
        source, origin = own, own["origin"]
    elif own and change["origin"] not in by_url and change["origin"] in removed:
        source = own  # an earlier merge of this step gave it what it has of its origin
    if not own and change["zarr_url"] not in BELOW:
        return False
    overlaid = {**source.get("attributes", {}), **change["attributes"]}
    new = {
        "zarr_url": change["zarr_url"],
        "origin": origin,
        "types": {**source.get("types", {}), **change["types"], **output_types},
        "attributes": {key: value for key, value in overlaid.items() if value is not None},
    }
    if own:
        images[images.index(own)] = new
    else:
        images.append(new)
    return True


def empty_update(url: str) -> Record:
    return {"zarr_url": url, "origin": None, "attributes": {}, "types": {}}
