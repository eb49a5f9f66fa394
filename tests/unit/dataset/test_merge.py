"""Merging a step into a dataset: what is written, and what merging again does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fractal_airflow.dataset import DatasetStore, ImageStatus
from fractal_airflow.exceptions import DatasetNotFoundError, ImageListError
from fractal_airflow.fractal.images import Image
from fractal_airflow.fractal.merging import UnitResult, merge_step
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput
from tests.unit.dataset.changes import ZARR_DIR, Change, add, become, drop, image, plate, set_type, step, urls


def test_a_merge_says_what_it_added_updated_and_removed(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        a, b, _ = images
        return [a, replace(b, types={"done": True}), image("d")]

    merged = store.merge("plate", step(), change)

    assert merged.version == 2
    assert merged.added == [f"{ZARR_DIR}/d"]
    assert merged.updated == [f"{ZARR_DIR}/b"]
    assert merged.removed == [f"{ZARR_DIR}/c"]
    assert store.images("plate") == [image("a"), image("b", done=True), image("d")]


def test_an_edited_image_keeps_its_place(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")

    store.merge("plate", step(), set_type("a", seen=True))

    assert urls(store.images("plate")) == ["a", "b", "c"]


def test_a_change_of_nothing_but_a_values_type_is_a_change(store: DatasetStore) -> None:
    url = f"{ZARR_DIR}/a"
    store.create("plate", ZARR_DIR, [Image(url, None, {"n": 1}, {})])

    for value in (1.0, True, 1):
        merged = store.merge("plate", step(run_id=repr(value)), become(Image(url, None, {"n": value})))
        assert merged.updated == [url]
        assert repr(store.images("plate")[0].attributes["n"]) == repr(value)


def test_a_merge_that_changes_nothing_makes_no_version(store: DatasetStore) -> None:
    plate(store, "a")

    merged = store.merge("plate", step(), lambda images, removed: [replace(one) for one in images])

    assert (merged.version, merged.added, merged.updated, merged.removed) == (1, [], [], [])
    assert len(store.versions("plate")) == 1


def test_an_error_of_the_change_goes_through_and_leaves_the_dataset_as_it_was(store: DatasetStore) -> None:
    plate(store, "a")

    with pytest.raises(KeyError, match=r"missing"):
        store.merge("plate", step(), drop("missing"), [ImageStatus(f"{ZARR_DIR}/a", "done")])

    assert store.get("plate").version == 1
    assert store.statuses("plate") == []


def test_an_image_twice_in_the_changed_list_is_refused(store: DatasetStore) -> None:
    plate(store, "a")

    with pytest.raises(ImageListError, match=r"'/data/plate/b' occurs twice"):
        store.merge("plate", step(), add("b", "b"))

    assert urls(store.images("plate")) == ["a"]


def test_a_merge_into_a_missing_dataset_is_refused(store: DatasetStore) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"'plate'"):
        store.merge("plate", step(), add("a"))


def test_merging_the_same_step_again_gives_the_same_list(store: DatasetStore) -> None:
    plate(store, "a", "b")

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return add("c")(drop("a")(images, removed), removed)

    first = store.merge("plate", step(), change)
    again = store.merge("plate", step(), change)

    assert urls(store.images("plate")) == ["b", "c"]
    assert again.version == first.version
    assert (again.added, again.updated, again.removed) == ([], [], [])


def test_a_retried_unit_lands_where_it_would_have_been(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(), add("b_out"))

    store.merge("plate", step(), add("a_out", "b_out"))

    assert urls(store.images("plate")) == ["a", "b", "a_out", "b_out"]
    store.merge("plate", step(1), add("z"))
    assert urls(store.images("plate")) == ["a", "b", "a_out", "b_out", "z"]


def test_an_image_that_the_cleared_step_no_longer_removes_is_back_in_its_place(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")
    store.merge("plate", step(), drop("b"))

    store.merge("plate", step(), lambda images, removed: images)

    assert urls(store.images("plate")) == ["a", "b", "c"]
    assert store.diff("plate", 1, 3).changed == []


def test_the_same_step_of_another_run_starts_from_the_newest_list(store: DatasetStore) -> None:
    plate(store, "a")
    store.merge("plate", step(), add("b"))

    store.merge("plate", step(run_id="run_2"), add("c"))

    assert urls(store.images("plate")) == ["a", "b", "c"]


def test_merging_again_after_another_step_keeps_that_steps_work(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(0), drop("a"))
    store.merge("plate", step(1), add("c"))

    store.merge("plate", step(0), drop("a"))

    assert urls(store.images("plate")) == ["b", "c"]


def test_only_an_own_removal_is_forgiven(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(0), drop("a"))
    store.merge("plate", step(1), add("c"))

    with pytest.raises(KeyError):
        store.merge("plate", step(2), drop("a"))


def test_removals_are_remembered_over_several_merges_of_a_step(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(0), drop("a"))
    store.merge("plate", step(1), add("c"))
    store.merge("plate", step(0), lambda images, removed: drop("a", "b")(images, removed))

    store.merge("plate", step(0), drop("a", "b"))

    assert urls(store.images("plate")) == ["c"]


def test_a_merge_and_its_statuses_are_one(store: DatasetStore) -> None:
    plate(store, "a")

    store.merge("plate", step(), add("b"), [ImageStatus(f"{ZARR_DIR}/a", "done", map_index=3)])

    (row,) = store.statuses("plate")
    assert (row.zarr_url, row.status, row.map_index, row.task) == (f"{ZARR_DIR}/a", "done", 3, "Threshold")
    newest = store.versions("plate")[-1]
    assert (newest.dag_id, newest.run_id, newest.step, newest.task) == ("nuclei", "run_1", 0, "Threshold")


def test_a_snapshot_has_the_version_of_its_images(store: DatasetStore) -> None:
    plate(store, "a")
    store.merge("plate", step(), add("b"))

    version, images, _ = store.snapshot("plate")

    assert (version, urls(images)) == (2, ["a", "b"])


def threshold(failing: frozenset[str]) -> Change:
    """The rules for a step whose units each add a mask image, except those that fail, and remove "raw"."""

    def result(name: str) -> UnitResult:
        url = f"{ZARR_DIR}/{name}"
        if name in failing:
            return UnitResult(url, failed=True)
        return UnitResult(url, TaskOutput([ImageUpdate(f"{url}_mask", origin=url)], [f"{url}_raw"]))

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return merge_step(
            images,
            [result(name) for name in ("a", "b")],
            zarr_dir=ZARR_DIR,
            input_urls=[f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"],
            output_types={"mask": True},
            already_removed=removed,
        )

    return change


def test_the_rules_merge_a_retried_and_a_cleared_step_as_if_it_had_run_once(store: DatasetStore) -> None:
    plate(store, "a", "b", "a_raw", "b_raw")
    everything = ["a", "b", "a_mask", "b_mask"]

    store.merge("plate", step(), threshold(failing=frozenset("a")))
    assert urls(store.images("plate")) == ["a", "b", "a_raw", "b_mask"]
    store.merge("plate", step(), threshold(failing=frozenset()))
    assert urls(store.images("plate")) == everything
    store.merge("plate", step(1), set_type("b", seen=True))
    store.merge("plate", step(), threshold(failing=frozenset()))
    assert urls(store.images("plate")) == everything
    assert store.images("plate")[1].types == {"seen": True}
