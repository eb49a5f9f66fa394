"""What events tell of a dataset: nothing that was merged is left out, whoever dies."""

from __future__ import annotations

from fractal_airflow.dataset import DatasetStore, ImageStatus, Merged
from tests.unit.dataset.changes import ZARR_DIR, add, drop, plate, set_type, step
from tests.unit.dataset.runs import compute, edit

A, B = f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"


def test_a_merge_says_since_when_changes_were_not_announced(store: DatasetStore) -> None:
    plate(store, "a")

    merged = [
        store.merge("plate", step(n), set_type("a", **{f"s{n}": True}), announce=announce)
        for n, announce in enumerate([False, True, False, True])
    ]

    assert [(one.since, one.merge) for one in merged] == [(0, 1), (0, 2), (2, 3), (2, 4)]
    assert store.snapshot("plate").mark == 4


def test_a_merge_that_is_done_again_tells_what_was_told_by_the_one_before(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(0), set_type("a", seen=True))
    store.merge("plate", step(1), edit("b"), announce=True)  # and then its task died
    store.merge("plate", step(0, run_id="other"), edit("a"), announce=True)

    again = store.merge("plate", step(1), edit("b"), announce=True)
    once_more = store.merge("plate", step(1), edit("b"), announce=True)

    assert [(one.since, one.merge) for one in (again, once_more)] == [(0, 4), (0, 5)]
    assert store.merge("plate", step(2), edit("a"), announce=True).since == 5


def test_where_a_merge_that_is_done_again_announces_nothing_the_next_one_tells(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(1), edit("a"), announce=True)

    store.merge("plate", step(1), edit("a"))

    assert store.merge("plate", step(2), edit("b"), announce=True).since == 0
    assert store.merge("plate", step(1), edit("a"), announce=True).since == 3


def test_what_a_merge_had_to_tell_that_needs_not_be_done_again_is_told_next(store: DatasetStore) -> None:
    plate(store, "a")
    seen = store.snapshot("plate")
    done = [ImageStatus(A, "done")]
    store.merge("plate", step(), edit("a"), done, selected_at=seen.mark, announce=True)  # its task died
    store.merge("plate", step(run_id="other"), edit("a"), done, announce=True)

    again = store.merge("plate", step(), edit("a"), done, selected_at=seen.mark, announce=True)

    assert (again.since, again.merge, again.written) == (0, 1, 0)
    assert store.announce("plate") == Merged(1, [], [A], [], merge=2, since=0, written=1)


def test_all_that_was_not_announced_can_be_taken_up_at_once(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")
    store.merge("plate", step(0), edit("c"), announce=True)
    store.merge("plate", step(1), add("d", "e"))
    store.merge("plate", step(2), drop("a", "e"))
    compute(store, step(3), "b")

    assert store.announce("plate") == Merged(
        version=3,
        added=[f"{ZARR_DIR}/d"],
        updated=[B],
        removed=[A, f"{ZARR_DIR}/e"],
        merge=4,
        since=1,
        written=2,
    )
    assert store.announce("plate") is None
    assert store.merge("plate", step(4), edit("b"), announce=True).since == 4


def test_where_nothing_was_written_nothing_is_announced(store: DatasetStore) -> None:
    plate(store, "a")
    assert store.announce("plate") is None

    store.record_statuses("plate", step(), [ImageStatus(A, "failed")])

    assert store.announce("plate") is None
