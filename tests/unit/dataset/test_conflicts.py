"""Several runs on one dataset: those on different images go on, and of those on the same the later is refused."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import pytest

from fractal_airflow.dataset import DatasetStore, ImageStatus, Merged, Snapshot, StepCall
from fractal_airflow.dataset.conflicts import conflict_message
from fractal_airflow.exceptions import DatasetConflictError
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import ZARR_DIR, Change, add, drop, image, plate, set_type, step, urls

A, B = f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"
CALL = StepCall("lab-tasks", "1.0", "Threshold", {}, "f", "local")

spawn = multiprocessing.get_context("spawn")


def merge(store: DatasetStore, run_id: str, name: str, seen: Snapshot, change: Change | None = None) -> None:
    """A run's step that worked on one image, which it selected from this snapshot."""
    statuses = [ImageStatus(f"{ZARR_DIR}/{name}", "done")]
    change = change or set_type(name, **{run_id: True})
    mine = step(run_id=run_id)
    store.merge("plate", mine, change, statuses, selected_at=seen.mark, version=seen.version)


def everything(store: DatasetStore) -> tuple[object, ...]:
    """All that the store knows of the dataset."""
    return (
        store.get("plate"),
        store.snapshot("plate"),
        store.versions("plate"),
        store.statuses("plate", latest=False),
        store.step_runs("plate"),
        store.writes("plate", step(run_id="one")),
    )


def test_runs_on_different_images_do_not_hinder_each_other(store: DatasetStore) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")

    merge(store, "one", "a", seen)
    merge(store, "two", "b", seen)

    assert [one.types for one in store.images("plate")] == [{"one": True}, {"two": True}]


def test_of_two_runs_on_the_same_image_the_later_is_refused_and_changes_nothing(store: DatasetStore) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen)
    before = everything(store)

    with pytest.raises(DatasetConflictError) as caught:
        merge(store, "two", "a", seen)

    assert everything(store) == before
    assert "run 'two' is not merged into dataset 'plate'" in str(caught.value)
    assert f"1 of them: '{A}'. They were changed by run 'one' of DAG 'nuclei'." in str(caught.value)
    assert "Clear the step's select task" in str(caught.value)
    merge(store, "two", "a", store.snapshot("plate"))
    assert store.images("plate")[0].types == {"one": True, "two": True}


def test_an_image_that_another_run_wrote_without_a_change_of_its_entry_is_in_conflict(
    store: DatasetStore,
) -> None:
    plate(store, "a")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen, lambda images, removed: [image("a")])
    assert store.get("plate").version == seen.version

    with pytest.raises(DatasetConflictError):
        merge(store, "two", "a", seen)


def test_an_image_that_another_run_removed_is_in_conflict(store: DatasetStore) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen, drop("b"))

    with pytest.raises(DatasetConflictError, match=B):
        merge(store, "two", "b", seen)


def test_two_runs_that_make_the_same_image_are_in_conflict(store: DatasetStore) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen, add("sum"))

    def overwrite(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return [*images[:-1], image("sum", second=True)]

    with pytest.raises(DatasetConflictError, match="/data/plate/sum"):
        merge(store, "two", "b", seen, overwrite)


def test_a_run_is_not_in_conflict_with_itself(store: DatasetStore) -> None:
    plate(store, "a")
    seen = store.snapshot("plate")

    merge(store, "one", "a", seen)
    merge(store, "one", "a", seen)

    assert store.images("plate")[0].types == {"one": True}


def test_a_merge_that_was_done_before_its_task_died_is_not_refused_when_it_is_tried_again(
    store: DatasetStore,
) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen)
    merge(store, "two", "a", store.snapshot("plate"))
    before = everything(store)

    done = [ImageStatus(A, "done")]
    told = store.merge(
        "plate", step(run_id="one"), drop("a"), done, selected_at=seen.mark, version=seen.version
    )

    assert told == Merged(version=3, added=[], updated=[], removed=[], merge=1, since=0, written=0)
    assert everything(store) == before


@pytest.mark.parametrize(
    "now", [[ImageStatus(A, "failed")], [ImageStatus(A, "done"), ImageStatus(B, "done")]]
)
def test_a_merge_of_something_else_than_what_is_done_is_refused(
    store: DatasetStore, now: list[ImageStatus]
) -> None:
    plate(store, "a", "b")
    seen = store.snapshot("plate")
    merge(store, "one", "a", seen)
    merge(store, "two", "a", store.snapshot("plate"))

    with pytest.raises(DatasetConflictError):
        store.merge("plate", step(run_id="one"), drop("a"), now, selected_at=seen.mark)


def test_a_merge_that_was_done_before_the_selection_is_refused(store: DatasetStore) -> None:
    plate(store, "a")
    merge(store, "one", "a", store.snapshot("plate"))
    seen = store.snapshot("plate")  # cleared
    merge(store, "two", "a", store.snapshot("plate"))

    with pytest.raises(DatasetConflictError):
        merge(store, "one", "a", seen)


def test_what_a_refused_merge_leaves_submitted_fails_and_what_stands_stays(store: DatasetStore) -> None:
    plate(store, "a", "b")
    mine = step(run_id="one")
    store.submit("plate", mine, CALL, [A, B])
    store.record_statuses("plate", mine, [ImageStatus(A, "done")])
    failed = [ImageStatus(url, "failed", error="refused") for url in (A, B, f"{ZARR_DIR}/c")]

    store.record_statuses("plate", mine, failed, only_submitted=True)
    store.record_statuses("plate", mine, failed, only_submitted=True)

    rows = [(row.zarr_url, row.status, row.merge) for row in store.statuses("plate")]
    assert rows == [(A, "done", 1), (B, "failed", 2)]
    assert store.snapshot("plate").mark == 2


def test_what_was_merged_before_the_selection_is_no_conflict(store: DatasetStore) -> None:
    plate(store, "a")
    merge(store, "one", "a", store.snapshot("plate"))

    merge(store, "two", "a", store.snapshot("plate"))

    assert store.snapshot("plate").mark == 2


@pytest.mark.parametrize("what", ["restored", "imported"])
def test_an_image_that_was_put_back_meanwhile_is_in_conflict(store: DatasetStore, what: str) -> None:
    plate(store, "a", "b")
    merge(store, "one", "a", store.snapshot("plate"))
    seen = store.snapshot("plate")
    if what == "restored":
        store.restore("plate", 1)
    else:
        store.import_dataset(store.export("plate", 1), replace=True)
    before = everything(store)

    with pytest.raises(
        DatasetConflictError, match=f"'{A}'. They were changed by version 3, which was {what}"
    ):
        merge(store, "two", "a", seen)
    assert everything(store) == before
    merge(store, "two", "b", seen)

    assert [one.types for one in store.images("plate")] == [{}, {"two": True}]


def test_a_conflict_names_no_more_than_one_can_read() -> None:
    changed = {f"run {n}": {f"/data/{n}-{i}" for i in range(3)} for n in range(6)}

    message = conflict_message("plate", step(), changed)

    assert (
        "18 of them: '/data/0-0', '/data/0-1', '/data/0-2', '/data/1-0', '/data/1-1' and 13 more" in message
    )
    assert "run 0, run 1, run 2, run 3, run 4 and 1 more." in message


def merge_at_once(url: str, run_id: str, names: str, barrier: Barrier, said: Queue[str]) -> None:
    store = DatasetStore(url)
    seen = store.snapshot("plate")
    barrier.wait()
    for name in names:
        try:
            merge(store, f"{run_id}_{name}", name, seen)
        except DatasetConflictError:
            said.put(f"{run_id} {name}")


@pytest.mark.parametrize(("theirs", "refused"), [("cd", 0), ("bc", 1)])
def test_of_two_processes_that_merge_at_once_one_is_refused_for_each_image_of_both(
    store: DatasetStore, store_url: str, theirs: str, refused: int
) -> None:
    plate(store, *"abcd")
    barrier, said = spawn.Barrier(2), spawn.Queue()
    runs = [
        spawn.Process(target=merge_at_once, args=(store_url, run_id, names, barrier, said))
        for run_id, names in (("one", "ab"), ("two", theirs))
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()

    assert [run.exitcode for run in runs] == [0, 0]
    assert [said.get(timeout=10) for _ in range(refused)] in ([], ["one b"], ["two b"])
    assert said.empty()
    edited = [name for name, one in zip("abcd", store.images("plate"), strict=True) if len(one.types) == 1]
    assert "".join(edited) == "".join(sorted({*"ab", *theirs}))
    assert urls(store.images("plate")) == list("abcd")
    assert store.snapshot("plate").mark == 4 - refused
