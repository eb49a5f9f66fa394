"""Image statuses: recording, the newest, and the history of all runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fractal_airflow.dataset import DatasetStore, ImageStatus
from fractal_airflow.exceptions import DatasetError, ImageListError
from tests.unit.dataset.changes import ZARR_DIR, plate, step

A, B = f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"


def test_a_status_comes_back_whole(store: DatasetStore) -> None:
    plate(store, "a")
    started = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    status = ImageStatus(
        A,
        "failed",
        map_index=7,
        log="/runs/7-log.txt",
        fingerprint="2.1.0:ab",
        error="exit code 1",
        started_at=started,
        seconds=1.5,
        max_rss_mb=250.25,
        try_number=2,
        warnings=("UserWarning: low contrast", "µ"),
        computed=True,
    )

    store.record_statuses("plate", step(), [status])

    (row,) = store.statuses("plate")
    assert {name: getattr(row, name) for name in ImageStatus.__dataclass_fields__} == {
        name: getattr(status, name) for name in ImageStatus.__dataclass_fields__
    }
    assert (row.dag_id, row.run_id, row.step, row.task) == ("nuclei", "run_1", 0, "Threshold")
    assert abs(datetime.now(UTC) - row.recorded_at) < timedelta(minutes=1)


def test_a_status_of_the_same_step_run_is_replaced_and_others_stay(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.record_statuses("plate", step(), [ImageStatus(A, "failed", error="boom"), ImageStatus(B, "done")])

    store.record_statuses("plate", step(), [ImageStatus(A, "done")])

    rows = {row.zarr_url: (row.status, row.error) for row in store.statuses("plate", latest=False)}
    assert rows == {A: ("done", None), B: ("done", None)}


def test_the_newest_status_of_each_step_and_image_is_given_and_all_on_request(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.record_statuses("plate", step(0), [ImageStatus(A, "failed"), ImageStatus(B, "done")])
    store.record_statuses("plate", step(1, task="Measure"), [ImageStatus(B, "done")])
    store.record_statuses("plate", step(0, run_id="run_2"), [ImageStatus(A, "done")])

    newest = {(row.step, row.zarr_url): (row.run_id, row.status) for row in store.statuses("plate")}
    assert newest == {(0, A): ("run_2", "done"), (0, B): ("run_1", "done"), (1, B): ("run_1", "done")}
    history = store.statuses("plate", zarr_url=A, latest=False)
    assert [(row.run_id, row.status) for row in history] == [("run_1", "failed"), ("run_2", "done")]


def test_statuses_are_narrowed_down_by_every_key(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.record_statuses("plate", step(0), [ImageStatus(A, "done"), ImageStatus(B, "done")])
    store.record_statuses("plate", step(1, task="Measure"), [ImageStatus(A, "done")])
    store.record_statuses("plate", step(0, run_id="run_2"), [ImageStatus(A, "done")])

    assert len(store.statuses("plate", latest=False)) == 4
    assert len(store.statuses("plate", zarr_url=B)) == 1
    assert len(store.statuses("plate", step=1)) == 1
    assert len(store.statuses("plate", task="Threshold", latest=False)) == 3
    assert len(store.statuses("plate", run_id="run_1")) == 3
    assert store.statuses("plate", dag_id="other") == []


def test_the_newest_within_a_run_is_that_runs_own(store: DatasetStore) -> None:
    plate(store, "a")
    store.record_statuses("plate", step(0), [ImageStatus(A, "failed")])
    store.record_statuses("plate", step(0, run_id="run_2"), [ImageStatus(A, "done")])

    assert [row.status for row in store.statuses("plate", run_id="run_1")] == ["failed"]


def test_the_last_of_two_statuses_of_an_image_counts(store: DatasetStore) -> None:
    plate(store, "a")

    store.record_statuses("plate", step(), [ImageStatus(A, "done"), ImageStatus(A, "failed")])

    assert [row.status for row in store.statuses("plate")] == ["failed"]


def test_an_edited_workflows_task_name_replaces_the_old_one(store: DatasetStore) -> None:
    plate(store, "a")
    store.record_statuses("plate", step(0, task="Old"), [ImageStatus(A, "done")])

    store.record_statuses("plate", step(0, task="New"), [ImageStatus(A, "done")])

    assert [row.task for row in store.statuses("plate", latest=False)] == ["New"]


def test_whatever_a_program_printed_can_be_an_error_text(store: DatasetStore) -> None:
    plate(store, "a")

    store.record_statuses("plate", step(), [ImageStatus(A, "failed", error="\x00 \udcff %s 'x'")])

    assert [row.error for row in store.statuses("plate")] == ["\N{REPLACEMENT CHARACTER} ? %s 'x'"]


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"use one of done, failed, submitted, unset"):
        ImageStatus(A, "finished")  # type: ignore[arg-type]


def test_a_status_of_a_path_that_no_database_stores_is_refused(store: DatasetStore) -> None:
    plate(store, "a")

    with pytest.raises(ImageListError, match=r"not valid Unicode"):
        store.record_statuses("plate", step(), [ImageStatus("/data/\udcff", "done")])


def test_the_mean_time_is_that_of_the_newest_run_with_finished_units(store: DatasetStore) -> None:
    plate(store, "a", "b")
    both = [ImageStatus(A, "done", seconds=2.0), ImageStatus(B, "done", seconds=4.0)]
    store.record_statuses("plate", step(0), [ImageStatus(A, "done", seconds=99.0)])
    store.record_statuses("plate", step(0, run_id="run_2"), both)
    store.record_statuses("plate", step(0, run_id="run_3"), [ImageStatus(A, "failed", seconds=50.0)])

    assert store.mean_seconds("Threshold") == 3.0
    assert store.mean_seconds("Threshold", "plate") == 3.0
    assert store.mean_seconds("Threshold", "other") is None
    assert store.mean_seconds("Never run") is None
