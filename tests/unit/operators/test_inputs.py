from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.dataset import NO_IMAGE, DatasetStore, ImageStatus, StepRun
from fractal_airflow.exceptions import EmptyImageListError, WorkflowError
from fractal_airflow.fractal import Image
from fractal_airflow.operators.inputs import StepInputs, fingerprint
from fractal_airflow.operators.xcoms import RunState
from tests.unit.workflows import step

A, B, C = "/z/a", "/z/b", "/z/c"


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    store = DatasetStore(tmp_path / "datasets.db")
    store.create("plate", "/z", [Image(url, None, {"well": url[-1]}, {}) for url in (A, B, C)])
    return store


def inputs(store: DatasetStore, images: Any, *, run_id: str = "tonight", number: int = 0, **more: Any) -> Any:
    run = RunState(
        dataset="plate",
        zarr_dir="/z",
        type_filters={},
        attribute_filters=more.pop("attribute_filters", {}),
        images=images,
        on_failure="continue",
    )
    task = more.pop("task", "Measure")
    step_run = StepRun("dag", run_id, number, task)
    chosen = StepInputs(store, step(task), step_run, run, "f00d", **more)
    return chosen.urls(store.snapshot("plate").images)


def record(store: DatasetStore, run_id: str, number: int = 0, **statuses: Any) -> None:
    """Merge a step that gave each image its status, and wrote those that are done."""
    done = {f"/z/{name}" for name, status in statuses.items() if status == "done"}
    store.merge(
        "plate",
        StepRun("dag", run_id, number, "Measure"),
        lambda images, removed: [
            Image(each.zarr_url, each.origin, {**each.attributes}, each.types)
            if each.zarr_url in done
            else each
            for each in images
        ],
        [ImageStatus(f"/z/{name}", status, fingerprint="f00d") for name, status in statuses.items()],
    )


def test_all_images_pass_but_those_that_failed_in_this_run(store: DatasetStore) -> None:
    record(store, "tonight", a="done", b="failed", c="done")

    assert inputs(store, "all", number=1) == [A, C]
    assert inputs(store, "all", number=1, run_id="another") == [A, B, C]


def test_an_empty_list_is_an_error_only_where_all_images_were_chosen(store: DatasetStore) -> None:
    nobody = {"attribute_filters": {"well": ["z"]}}

    with pytest.raises(EmptyImageListError, match="Measure"):
        inputs(store, "all", **nobody)
    assert inputs(store, "pending", **nobody) == []
    assert inputs(store, "failed", **nobody) == []


def test_nothing_is_left_where_all_have_failed(store: DatasetStore) -> None:
    record(store, "tonight", a="failed", b="failed", c="failed")

    assert inputs(store, "all", number=1) == []


def test_pending_is_what_is_not_done(store: DatasetStore) -> None:
    record(store, "yesterday", a="done", b="failed")

    assert inputs(store, "pending") == [B, C]


def test_what_one_image_of_a_group_needs_the_others_get_too(store: DatasetStore) -> None:
    record(store, "yesterday", a="done", b="done")

    assert inputs(store, "pending", together=["plate"]) == [A, B, C]
    assert inputs(store, "pending", together=["well"]) == [C]


def test_failed_is_what_failed_last_and_what_comes_of_it(store: DatasetStore) -> None:
    record(store, "first", a="failed", b="failed", c="done")
    record(store, "second", a="done")
    assert inputs(store, "failed") == [B]

    record(store, "tonight", b="done")

    assert inputs(store, "failed", number=1) == [B]


def test_an_event_names_its_images(store: DatasetStore) -> None:
    written = store.merge(
        "plate",
        StepRun("producer", "run", 0, "Convert"),
        lambda images, removed: [*images, Image("/z/new", None, {}, {})],
    )

    assert inputs(store, "event", events=[(written.since, written.merge)]) == ["/z/new"]
    assert inputs(store, "event", events=[]) == []


def test_an_event_leaves_out_what_is_done_and_what_the_dag_wrote_itself(store: DatasetStore) -> None:
    made = [Image("/z/old", None, {}, {}), Image("/z/new", None, {}, {})]
    store.merge("plate", StepRun("producer", "run", 0, "Convert"), lambda images, removed: [*images, *made])
    record(store, "yesterday", a="done", old="done")

    assert inputs(store, "event", events=[[0, 9]]) == ["/z/new"]
    assert inputs(store, "event", number=1, events=[[0, 9]]) == ["/z/old", "/z/new"]


def test_a_group_that_lost_a_member_is_left_out_whole(store: DatasetStore) -> None:
    record(store, "tonight", a="failed", b="done", c="done")

    assert inputs(store, "all", number=1, together=["well"]) == [B, C]
    assert inputs(store, "all", number=1, together=["plate"]) == []


def test_an_event_names_what_another_dag_corrects_in_place_though_it_came_later(store: DatasetStore) -> None:
    record(store, "yesterday", a="done", b="done")
    corrected = store.merge(
        "plate",
        StepRun("corrections", "run", 0, "Correct"),
        lambda images, removed: [Image(A, None, {"well": "a"}, {}), *images[1:]],
        [ImageStatus(A, "done")],
    )

    assert inputs(store, "pending") == [C]
    assert inputs(store, "event", events=[(corrected.since, corrected.merge)]) == [A]


def test_fingerprints_of_the_version_before_are_the_same(store: DatasetStore) -> None:
    arguments = {"parallel": {"threshold": 5}}

    assert fingerprint(step("Measure"), arguments) == fingerprint(
        step("Measure"), {"non_parallel": {}, **arguments}
    )
    assert fingerprint(step("Measure"), arguments) == "70de26986cc1faeb"


def test_an_argument_that_is_no_json_is_named_with_its_task(store: DatasetStore) -> None:
    with pytest.raises(WorkflowError, match="Measure: an argument is no JSON"):
        fingerprint(step("Measure"), {"parallel": {"when": object()}})


def test_a_converter_is_kept_under_no_image(store: DatasetStore) -> None:
    assert inputs(store, "all", task="Make Plate") == [NO_IMAGE]
    assert inputs(store, "pending", task="Make Plate") == [NO_IMAGE]
    assert inputs(store, "failed", task="Make Plate") == []

    store.record_statuses(
        "plate",
        StepRun("dag", "yesterday", 0, "Make Plate"),
        [ImageStatus(NO_IMAGE, "done", fingerprint="f00d")],
    )
    assert inputs(store, "pending", task="Make Plate") == []

    store.record_statuses(
        "plate", StepRun("dag", "later", 0, "Make Plate"), [ImageStatus(NO_IMAGE, "failed")]
    )
    assert inputs(store, "failed", task="Make Plate") == inputs(store, "pending", task="Make Plate")
