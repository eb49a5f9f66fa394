"""Versions of an image list: reading back, comparing and restoring."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fractal_airflow.dataset import DatasetStore
from fractal_airflow.exceptions import DatasetNotFoundError
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import add, become, drop, image, plate, set_type, step, urls


@pytest.fixture
def edited(store: DatasetStore) -> DatasetStore:
    """A dataset with four versions: made, one added, one edited, one removed."""
    plate(store, "a", "b")
    store.merge("plate", step(0), add("c"))
    store.merge("plate", step(1), set_type("a", seen=True))
    store.merge("plate", step(2), drop("b"))
    return store


def test_every_version_can_be_read_back(edited: DatasetStore) -> None:
    lists = [urls(edited.images("plate", version)) for version in (1, 2, 3, 4)]

    assert lists == [["a", "b"], ["a", "b", "c"], ["a", "b", "c"], ["a", "c"]]
    assert edited.images("plate", 2)[0] == image("a")
    assert edited.images("plate", 3)[0] == image("a", seen=True)


@pytest.mark.parametrize("version", [0, -1, 5])
def test_a_version_that_does_not_exist_is_named(edited: DatasetStore, version: int) -> None:
    with pytest.raises(DatasetNotFoundError, match=f"no version {version}: it has 1 to 4"):
        edited.images("plate", version)
    with pytest.raises(DatasetNotFoundError, match=f"no version {version}"):
        edited.restore("plate", version)
    with pytest.raises(DatasetNotFoundError, match=f"no version {version}"):
        edited.diff("plate", 1, version)


def test_versions_tell_what_happened(edited: DatasetStore) -> None:
    told = [
        (v.version, v.what, v.image_count, v.added, v.updated, v.removed) for v in edited.versions("plate")
    ]

    assert told == [
        (1, "created", 2, 2, 0, 0),
        (2, "merged", 3, 1, 0, 0),
        (3, "merged", 3, 0, 1, 0),
        (4, "merged", 2, 0, 0, 1),
    ]


def test_a_diff_shows_images_added_removed_and_changed(edited: DatasetStore) -> None:
    diff = edited.diff("plate", 1, 4)

    assert diff.added == [image("c")]
    assert diff.removed == [image("b")]
    assert diff.changed == [(image("a"), image("a", seen=True))]


def test_a_diff_backwards_is_the_other_way_round(edited: DatasetStore) -> None:
    diff = edited.diff("plate", 4, 1)

    assert diff.added == [image("b")]
    assert diff.removed == [image("c")]
    assert diff.changed == [(image("a", seen=True), image("a"))]


def test_a_diff_with_itself_is_empty(edited: DatasetStore) -> None:
    diff = edited.diff("plate", 3, 3)

    assert (diff.added, diff.removed, diff.changed) == ([], [], [])


def test_restoring_makes_a_new_version_equal_to_the_old(edited: DatasetStore) -> None:
    restored = edited.restore("plate", 2)

    assert restored == 5
    assert edited.images("plate") == edited.images("plate", 2)
    assert edited.versions("plate")[-1].what == "restored"
    assert urls(edited.images("plate", 4)) == ["a", "c"]


def test_restoring_the_newest_version_does_nothing(edited: DatasetStore) -> None:
    assert edited.restore("plate", 4) == 4
    assert len(edited.versions("plate")) == 4


def test_a_step_merged_after_a_restore_begins_with_the_restored_list(edited: DatasetStore) -> None:
    edited.restore("plate", 1)

    edited.merge("plate", step(2), drop("b"))

    assert edited.images("plate") == [image("a")]


NAMES = st.lists(st.sampled_from("abcdef"), unique=True)
LISTS = st.lists(st.tuples(st.integers(0, 2), NAMES, st.booleans()), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(merges=LISTS)
def test_any_order_of_merges_keeps_every_version_as_it_was(
    store: DatasetStore, merges: list[tuple[int, list[str], bool]]
) -> None:
    for one in store.list_datasets():
        store.delete(one.name)
    plate(store)
    seen: dict[int, list[Image]] = {1: []}
    for index, names, flag in merges:
        wanted = [image(name, flag=flag) for name in names]
        merged = store.merge("plate", step(index), become(*wanted))
        assert store.images("plate") == wanted
        seen[merged.version] = wanted

    assert [store.images("plate", version) for version in seen] == list(seen.values())
