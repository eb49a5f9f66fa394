"""A whole workflow as a DAG: every type of task, and what flows from step to step."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from fractal_airflow.fractal import Image
from tests.services.airflow import AirflowHome

WELLS = ["B/03", "B/04", "C/03"]


def well_of(image: Image) -> str:
    return str(image.attributes["well"])


def test_all_five_types_of_tasks_run_one_after_another(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag(
        "plate",
        {"name": "Make Plate", "args_non_parallel": {"plate": "first", "wells": ["A/01"]}},
        {"name": "Convert Plate", "args_non_parallel": {"wells": WELLS}},
        {"name": "Project"},
        {"name": "Measure"},
        {"name": "Summarise", "args_non_parallel": {"remove": ["A/01/0_mip"]}},
        images_per_batch=3,
    )

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert set(run.states.values()) == {"success"}
    first, *rest = airflow.store.images("plate")
    assert first.zarr_url == f"{airflow.data}/first.zarr/A/01/0"
    assert [image.zarr_url for image in rest] == [
        *(airflow.url(well) for well in WELLS),
        *(airflow.url(well) + "_mip" for well in WELLS),
    ]
    assert airflow.store.versions("plate")[-1].removed == 1


def test_types_flow_from_step_to_step(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag(
        "plate",
        {"name": "Make Plate"},
        {"name": "Project"},
        {"name": "Measure"},
        {"name": "Summarise", "args_non_parallel": {"file": "flat.json"}},
        {"name": "Summarise", "type_filters": {"is_3D": True}, "args_non_parallel": {"file": "deep.json"}},
        {"name": "Summarise", "args_non_parallel": {"file": "flat_again.json"}},
    )

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    flat = [airflow.url(well) + "_mip" for well in ("B/03", "B/04")]
    deep = [airflow.url(well) for well in ("B/03", "B/04")]
    # The output type is_3D=False holds from the projection on; a filter of a step holds for that step alone.
    assert read(airflow, "flat.json") == flat
    assert read(airflow, "deep.json") == deep
    assert read(airflow, "flat_again.json") == flat
    assert [image.types for image in airflow.store.images("plate")] == [{"is_3D": True}] * 2 + [
        {"is_3D": False}
    ] * 2


def test_new_images_take_over_the_attributes_of_their_origin(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", is_3D=True)
    airflow.write_fractal_dag("plate", {"name": "Project"})

    assert airflow.test_dag("plate").state == "success"

    projected = airflow.store.images("plate")[2:]
    assert [(image.origin, well_of(image)) for image in projected] == [
        (airflow.url("B/03"), "B03"),
        (airflow.url("B/04"), "B04"),
    ]


def test_mapped_instances_are_labelled_with_their_images(airflow: AirflowHome) -> None:
    airflow.add_images(*WELLS, is_3D=True)
    airflow.write_fractal_dag(
        "one",
        {"name": "Project"},
        {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0_mip"]}},
        images_per_batch=1,
    )

    run = airflow.test_dag("one")

    assert run.labels_of("0_project.run") == ["B/03/0_mip", "B/04/0_mip", "C/03/0_mip"]
    assert run.labels_of("1_measure.run") == ["B/03/0_mip", "B/04/0_mip", "C/03/0_mip"]
    assert run.state_of("1_measure.run", 1) == "failed"


def test_batches_are_as_many_as_can_run_at_once_unless_told_otherwise(airflow: AirflowHome) -> None:
    wells = [f"B/{column:02d}" for column in range(1, 8)]
    airflow.add_images(*wells)
    for dag_id, options in {"by_itself": {}, "by_three": {"images_per_batch": 3}}.items():
        airflow.write_fractal_dag(dag_id, {"name": "Measure"}, **options)
    connection = {"conn_type": "fractal", "extra": {"jobs_runner_config": {"parallel_tasks_per_job": 2}}}

    by_itself = airflow.test_dag("by_itself", AIRFLOW_CONN_LOCAL=json.dumps(connection))
    by_three = airflow.test_dag("by_three")

    assert by_itself.labels_of("0_measure.run") == ["B/01/0 … B/04/0 (4)", "B/05/0 … B/07/0 (3)"]
    assert by_three.labels_of("0_measure.run") == [
        "B/01/0 … B/03/0 (3)",
        "B/04/0 … B/05/0 (2)",
        "B/06/0 … B/07/0 (2)",
    ]


def test_there_are_never_more_instances_than_airflow_can_map(airflow: AirflowHome) -> None:
    airflow.add_images(*WELLS, "C/04", "C/05", is_3D=True)
    airflow.write_fractal_dag("plate", {"name": "Project"}, {"name": "Measure"}, images_per_batch=1)

    run = airflow.test_dag("plate", AIRFLOW__CORE__MAX_MAP_LENGTH="2")

    assert run.state == "success", run.log
    assert len(run.labels_of("0_project.run")) == len(run.labels_of("1_measure.run")) == 2
    assert "images_per_batch=1 would make 5 batches" in run.log


def test_an_empty_parallelization_list_is_a_step_without_units(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", is_3D=True)
    airflow.write_fractal_dag(
        "plate",
        {"name": "Project", "args_non_parallel": {"nothing_to_do": True}},
        {"name": "Measure"},
    )

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert run.state_of("0_project.run") == "skipped"
    assert run.state_of("0_project.merge") == "success"
    # Without any update, every input image of the step counts as updated.
    assert [image.types for image in airflow.store.images("plate")] == [{"is_3D": False}] * 2
    assert airflow.measured("B/03", "B/04") == [1, 1]
    assert airflow.statuses() == {"B/03/0": "done", "B/04/0": "done"}


def test_large_outputs_do_not_travel_through_airflow(airflow: AirflowHome) -> None:
    wells = [f"{row}/{column}" for row in "ABCD" for column in range(500)]
    airflow.write_fractal_dag("plate", {"name": "Make Plate", "args_non_parallel": {"wells": wells}})

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert airflow.store.get("plate").image_count == 2000
    with sqlite3.connect(airflow.home / "airflow.db") as database:
        sizes = database.execute("SELECT task_id, length(value) FROM xcom WHERE key = 'return_value'")
        assert all(size < 1000 for _, size in sizes)


def test_a_second_run_goes_on_with_the_dataset(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag("plate", {"name": "Make Plate"}, {"name": "Measure"})

    runs = [airflow.test_dag("plate"), airflow.test_dag("plate")]

    assert [run.state for run in runs] == ["success", "success"]
    assert airflow.measured("B/03", "B/04") == [2, 2]
    assert len(airflow.store.images("plate")) == 2
    assert len(airflow.store.statuses("plate", task="fake-tasks/Measure", latest=False)) == 4


def test_units_leave_their_arguments_and_logs_in_the_run_folder(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": {"threshold": 3}})

    run = airflow.test_dag("plate")

    (arguments,) = (airflow.runs / "plate").rglob("0-args.json")
    assert json.loads(arguments.read_text()) == {"threshold": 3, "zarr_url": airflow.url("B/03")}
    (record,) = airflow.store.statuses("plate")
    assert Path(record.log or "").parent == arguments.parent
    assert (record.run_id, record.step, record.map_index) == (run.run_id, 0, 0)
    assert record.seconds is not None


def read(airflow: AirflowHome, file: str) -> list[str]:
    return list(json.loads((airflow.data / file).read_text(encoding="utf-8")))
