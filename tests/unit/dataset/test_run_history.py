"""What the store tells of runs: what they were asked, what they wrote, and what became of those that ended early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from fractal_airflow.dataset import NO_IMAGE, DatasetStore, ImageStatus, ImageWrite, StepCall
from fractal_airflow.dataset.engine import get_engine, parse_url, writing
from fractal_airflow.exceptions import DatasetNotFoundError
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import ZARR_DIR, add, drop, image, plate, set_type, step

A, B, C = f"{ZARR_DIR}/a", f"{ZARR_DIR}/b", f"{ZARR_DIR}/c"
CALL = StepCall("lab-tasks", "1.0", "Threshold", {"parallel": {"level": 2, "µ": None}}, "f1", "cluster")


def test_a_submitted_step_has_its_call_and_its_images(store: DatasetStore) -> None:
    plate(store, "a", "b")

    store.submit("plate", step(), CALL, [A, B])

    (told,) = store.step_runs("plate")
    called = (told.package, told.version, told.name, told.arguments, told.fingerprint, told.resource)
    assert StepCall(*called) == CALL  # type: ignore[arg-type]
    assert told.started_at is not None
    assert abs(datetime.now(UTC) - told.started_at) < timedelta(minutes=1)
    assert (told.ended_at, told.merge, told.versions, told.statuses) == (None, 0, [], {"submitted": 2})
    rows = store.statuses("plate")
    assert [(row.zarr_url, row.fingerprint, row.computed, row.merge) for row in rows] == [
        (A, "f1", False, 0),
        (B, "f1", False, 0),
    ]


def test_a_merged_step_tells_what_it_did(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")
    store.submit("plate", step(), CALL, [A, B])

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return drop("c")(add("a_mask")(set_type("a", seen=True)(images, removed), removed), removed)

    # set_type and add leave b alone, as its unit failed
    merged = store.merge("plate", step(), change, [ImageStatus(A, "done"), ImageStatus(B, "failed")])

    (told,) = store.step_runs("plate", "nuclei", "run_1")
    assert (told.merge, told.versions, told.statuses) == (1, [2], {"done": 1, "failed": 1})
    assert (told.made, told.edited, told.removed) == (1, 1, 1)
    assert told.ended_at is not None
    assert (merged.merge, merged.written) == (1, 2)
    assert store.writes("plate", step()) == [
        ImageWrite(A, "edited"),
        ImageWrite(f"{ZARR_DIR}/a_mask", "made"),
        ImageWrite(C, "removed"),
    ]
    assert store.writes("plate", step(1)) == []


def test_a_step_that_is_submitted_again_forgets_what_it_only_submitted(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")
    store.submit("plate", step(), CALL, [A, B])
    store.record_statuses("plate", step(), [ImageStatus(A, "done")])

    store.submit("plate", step(), CALL, [C])

    assert [(row.zarr_url, row.status) for row in store.statuses("plate")] == [(A, "done"), (C, "submitted")]
    assert store.step_runs("plate")[0].ended_at is None


def test_a_step_that_selects_fewer_images_forgets_what_failed_of_the_others(store: DatasetStore) -> None:
    plate(store, "a", "b", "c")
    store.record_statuses(
        "plate",
        step(),
        [ImageStatus(A, "failed"), ImageStatus(B, "done"), ImageStatus(C, "failed", computed=True)],
    )

    store.submit("plate", step(), CALL, [B])

    assert store.failed_in_run("plate", "nuclei", "run_1", 1) == set()
    rows = {row.zarr_url: row.status for row in store.statuses("plate")}
    assert rows == {B: "submitted", C: "failed"}  # what was computed of c stands


def test_a_step_that_has_nothing_to_do_any_more_has_ended(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.submit("plate", step(), CALL, [A, B])
    store.record_statuses("plate", step(1), [ImageStatus(A, "failed")])

    store.submit("plate", step(), CALL, [])
    store.submit("plate", step(1), CALL, [])

    assert store.statuses("plate") == []
    assert store.settle("plate", lambda dag_id, run_id: "failed") == 0
    assert all(told.ended_at is not None for told in store.step_runs("plate"))


def test_a_step_that_never_had_anything_to_do_leaves_no_trace_and_waits_for_nobody(
    store: DatasetStore, store_url: str
) -> None:
    plate(store, "a")
    store.record_statuses("plate", step(1), [ImageStatus(A, "done")])
    before = store.step_runs("plate")

    with writing(get_engine(parse_url(store_url))) as connection:
        connection.execute(sa.text("UPDATE fractal_dataset SET merges = merges"))  # locks it
        store.submit("plate", step(), CALL, [])
        store.submit("plate", step(1), CALL, [])

    assert store.step_runs("plate") == before


def test_merging_again_replaces_what_the_step_wrote_and_undoes_what_it_does_not_repeat(
    store: DatasetStore,
) -> None:
    plate(store, "a", "b")
    store.merge("plate", step(), add("c", "d"))

    merged = store.merge("plate", step(), add("c"))

    assert merged.removed == [f"{ZARR_DIR}/d"]
    assert store.writes("plate", step()) == [ImageWrite(C, "made"), ImageWrite(f"{ZARR_DIR}/d", "removed")]
    assert store.written_between("plate", 1, 2) == {C}


def test_a_converters_status_has_no_image(store: DatasetStore) -> None:
    plate(store)
    store.submit("plate", step(), CALL, [NO_IMAGE])

    store.merge("plate", step(), add("a"), [ImageStatus(NO_IMAGE, "done", try_number=1)])

    assert [(row.zarr_url, row.status) for row in store.statuses("plate")] == [("", "done")]
    assert store.writes("plate", step()) == [ImageWrite(A, "made")]


def test_step_runs_of_before_the_history_have_no_call(store: DatasetStore) -> None:
    plate(store, "a")
    store.record_statuses("plate", step(0), [ImageStatus(A, "done")])
    store.record_statuses("plate", step(1, run_id="run_2"), [ImageStatus(A, "done")])

    first, second = store.step_runs("plate")
    assert (first.package, first.arguments, first.started_at, first.merge) == (None, None, None, 1)
    assert (second.run_id, second.step, second.merge) == ("run_2", 1, 2)
    assert store.step_runs("plate", "other") == []
    assert store.step_runs("plate", run_id="run_2") == [second]


def test_statuses_can_be_narrowed_down_to_those_that_are_failed_now(store: DatasetStore) -> None:
    plate(store, "a", "b")
    store.record_statuses("plate", step(), [ImageStatus(A, "failed"), ImageStatus(B, "failed")])
    store.record_statuses("plate", step(run_id="run_2"), [ImageStatus(A, "done")])

    assert [row.zarr_url for row in store.statuses("plate", status="failed")] == [B]
    assert len(store.statuses("plate", status="failed", latest=False)) == 2


def test_warnings_may_hold_anything_that_a_program_printed(store: DatasetStore) -> None:
    plate(store, "a")

    store.record_statuses("plate", step(), [ImageStatus(A, "done", warnings=("\x00 \udcff", "µ"))])

    assert store.statuses("plate")[0].warnings == ("\N{REPLACEMENT CHARACTER} ?", "µ")


def test_what_a_run_that_ended_left_submitted_has_failed(store: DatasetStore) -> None:
    plate(store, "a", "b")
    for run_id in ("killed", "deleted", "running", "queued"):
        store.submit("plate", step(run_id=run_id), CALL, [A, B])
    store.record_statuses("plate", step(run_id="killed"), [ImageStatus(A, "done")])
    store.record_statuses("plate", step(run_id="merged"), [ImageStatus(A, "done")])
    asked = []

    def state(dag_id: str, run_id: str) -> str | None:
        asked.append((dag_id, run_id))
        return {"killed": "failed", "deleted": None}.get(run_id, run_id)

    assert store.settle("plate", state) == 3
    assert sorted(asked) == [("nuclei", run_id) for run_id in ("deleted", "killed", "queued", "running")]

    def told(run_id: str) -> list[tuple[str, str]]:
        return [(row.zarr_url, row.status) for row in store.statuses("plate", run_id=run_id)]

    assert told("killed") == [(A, "done"), (B, "failed")]
    assert told("deleted") == [(A, "failed"), (B, "failed")]
    assert told("running") == told("queued") == [(A, "submitted"), (B, "submitted")]
    errors = {row.run_id: row.error for row in store.statuses("plate", status="failed", latest=False)}
    assert "ended (failed) before" in str(errors["killed"])
    assert "was deleted before" in str(errors["deleted"])
    assert store.failed_before("plate", step(run_id="next")) == {A, B}


def test_with_nothing_submitted_nothing_is_asked_or_written(store: DatasetStore) -> None:
    plate(store, "a")
    store.merge("plate", step(), set_type("a", seen=True), [ImageStatus(A, "failed")])
    before = store.snapshot("plate")

    assert store.settle("plate", lambda dag_id, run_id: pytest.fail("asked")) == 0

    assert store.snapshot("plate") == before


def test_a_run_that_was_settled_too_early_can_still_merge(store: DatasetStore) -> None:
    plate(store, "a")
    store.submit("plate", step(), CALL, [A])
    store.settle("plate", lambda dag_id, run_id: "failed")

    store.merge("plate", step(), set_type("a", seen=True), [ImageStatus(A, "done")])

    assert [(row.status, row.error) for row in store.statuses("plate", latest=False)] == [("done", None)]


def test_a_deleted_dataset_takes_its_history_along(store: DatasetStore, store_url: str) -> None:
    plate(store, "a")
    store.submit("plate", step(), CALL, [A])
    store.merge("plate", step(), add("b"), [ImageStatus(A, "done")])

    store.delete("plate")

    with get_engine(parse_url(store_url)).connect() as connection:
        for table in ("step_run", "image_status", "image_write", "image", "dataset_version"):
            assert connection.scalar(sa.text(f"SELECT count(*) FROM fractal_{table}")) == 0
    with pytest.raises(DatasetNotFoundError):
        store.step_runs("plate")


def test_an_image_list_that_is_put_back_makes_no_merge(store: DatasetStore) -> None:
    plate(store, "a")
    store.merge("plate", step(), set_type("a", seen=True), [ImageStatus(A, "done")])

    store.restore("plate", 1)
    store.import_dataset({**store.export("plate"), "images": []}, replace=True)

    assert store.snapshot("plate") == (4, [], 1)
    assert image("a") not in store.images("plate")
