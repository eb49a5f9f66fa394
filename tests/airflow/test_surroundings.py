"""What is around a run: resources, work folders, interpreters, dataset stores, odd paths, other runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.dataset import DatasetStore
from tests.services import dag_calls
from tests.services.airflow import TIMEOUT_S, AirflowHome, make_home
from tests.services.postgres import PostgresServer, running_postgres

ODD = 'a b\'s "c" $(touch pwned) `id` ü\n-x'


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


def connection(conn_type: str = "fractal", **extra: Any) -> str:
    return json.dumps({"conn_type": conn_type, "extra": extra})


class TestResource:
    """Units run where an Airflow connection of type ``fractal`` says."""

    def test_a_connection_says_where_and_how_many_at_once(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03", "B/04", "C/03")
        airflow.write_fractal_dag("plate", {"name": "Measure"}, resource="lab")
        lab = connection(work_dir=str(airflow.home / "lab"), jobs_runner_config={"parallel_tasks_per_job": 3})

        run = airflow.test_dag("plate", AIRFLOW_CONN_LAB=lab)

        assert run.state == "success", run.log
        assert run.labels_of("0_measure.run") == ["B/03/0", "B/04/0", "C/03/0"]
        assert len(list((airflow.home / "lab").rglob("results.jsonl"))) == 3
        assert not airflow.runs.exists()

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({}, "There is no Airflow connection 'lab'"),
            ({"AIRFLOW_CONN_LAB": connection("ssh")}, "is of type 'ssh', not 'fractal'"),
            (
                {"AIRFLOW_CONN_LAB": connection(work_dri="/x")},
                "Resource 'lab': Bad configuration of the resource: work_dri",
            ),
            (
                {"AIRFLOW_CONN_LAB": connection(type="slurm_ssh", work_dir="/shared")},
                "ssh_conn_id is missing",
            ),
        ],
        ids=["missing", "of another type", "with an unknown key", "without a key"],
    )
    def test_a_bad_connection_fails_before_any_unit_and_is_not_tried_again(
        self, airflow: AirflowHome, settings: dict[str, str], said: str
    ) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag(
            "plate", {"name": "Measure"}, resource="lab", default_args={"retries": 1, "retry_delay": 0}
        )

        run = airflow.test_dag("plate", **settings)

        assert run.state == "failed"
        assert said in run.log
        assert run.tries["0_measure.select", -1] == 1
        assert airflow.measured("B/03") == [0]


def test_a_work_folder_that_cannot_be_written_is_named(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", {"name": "Measure"}, default_args={"retries": 1, "retry_delay": 0})
    before = airflow.store.snapshot("plate")
    airflow.runs.write_text("a file is in its place")

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert f"The work folder {airflow.runs}" in run.log
    assert "cannot be written" in run.log
    assert run.tries["0_measure.run", 0] == 2  # somebody may have made room meanwhile
    assert run.state_of("0_measure.merge") == "failed"
    assert airflow.store.snapshot("plate")[:2] == before[:2]
    assert airflow.statuses() == {"B/03/0": "failed"}


def test_a_missing_interpreter_is_named(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04")
    airflow.write_fractal_dag("plate", {"name": "Measure"}, python="/no/such/python")

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert "JobExecutionError: Measure: " in run.log
    assert "/no/such/python" in run.log
    assert all("/no/such/python" in (record.error or "") for record in airflow.store.statuses("plate"))


class TestOddPaths:
    """Spaces, quotes, ``$(…)``, newlines and letters of all languages simply work."""

    def test_in_zarr_dir_wells_arguments_and_work_folder(self, airflow: AirflowHome) -> None:
        zarr_dir = airflow.home / ODD
        airflow.write_fractal_dag(
            "plate",
            {"name": "Make Plate", "args_non_parallel": {"plate": ODD, "wells": ["B/03", ODD]}},
            {"name": "Project"},
            {"name": "Measure", "args_parallel": {"note": ODD}},
            {"name": "Summarise", "alias": ODD},
            images_per_batch=1,
        )
        work_dir = airflow.home / f"runs {ODD}"

        run = airflow.test_dag(
            "plate",
            {"zarr_dir": str(zarr_dir), "dataset": ODD},
            AIRFLOW_CONN_LOCAL=connection(work_dir=str(work_dir)),
        )

        assert run.state == "success", run.log
        assert [image.zarr_url for image in airflow.store.images(ODD)][:2] == [
            f"{zarr_dir}/{ODD}.zarr/{well}/0" for well in ("B/03", ODD)
        ]
        (notes,) = zarr_dir.glob("*/B/03/0_mip/runs.txt")
        assert repr(ODD) in notes.read_text(encoding="utf-8")
        assert len(list(work_dir.rglob("results.jsonl"))) == 7
        assert not [file for file in airflow.home.rglob("pwned") if file.name == "pwned"]

    def test_in_templates(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag(
            "plate",
            {"name": "Make Plate", "args_non_parallel": {"plate": "{{ params.plate }}"}},
            params={"plate": "p"},
        )

        run = airflow.test_dag("plate", {"plate": ODD})

        assert run.state == "success", run.log
        assert airflow.store.images("plate")[0].attributes["plate"] == ODD


def test_units_do_not_see_what_belongs_to_airflow(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": {"show_environment": True}})

    run = airflow.test_dag("plate", AIRFLOW_CONN_SECRET=connection(password="hush"))

    assert run.state == "success", run.log
    names = json.loads(Path(airflow.url("B/03"), "environment.json").read_text())
    assert "PATH" in names
    assert [name for name in names if "AIRFLOW" in name] == []


class TestDatasetStore:
    """The store is an SQLite file, or a PostgreSQL that a connection names."""

    def test_a_store_on_postgresql(self, airflow: AirflowHome, postgres: PostgresServer) -> None:
        url = postgres.create_database("datasets")
        airflow.write_fractal_dag("plate", {"name": "Make Plate"}, {"name": "Project"})

        run = airflow.test_dag(
            "plate",
            AIRFLOW_CONN_LAB_STORE=url,
            AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID="lab_store",
        )

        assert run.state == "success", run.log
        assert DatasetStore(url).get("plate").image_count == 4
        assert not (airflow.home / "fractal_datasets.db").exists()

    def test_a_store_that_cannot_be_reached_is_tried_again(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag(
            "plate", {"name": "Make Plate"}, default_args={"retries": 1, "retry_delay": 0}
        )

        run = airflow.test_dag(
            "plate",
            AIRFLOW_CONN_LAB_STORE="postgresql://me:hushhush@127.0.0.1:1/datasets",
            AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID="lab_store",
        )

        assert run.state == "failed"
        assert run.tries["0_make_plate.select", -1] == 2
        assert "DatasetStoreError" in run.log
        assert "127.0.0.1:1/datasets" in run.log
        assert "hushhush" not in run.log

    def test_a_connection_that_does_not_exist_is_named(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag("plate", {"name": "Make Plate"})

        run = airflow.test_dag("plate", AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID="lab_store")

        assert run.state == "failed"
        assert (
            "[fractal_airflow] dataset_conn_id names the connection 'lab_store', which does not exist"
            in run.log
        )

    def test_two_runs_that_merge_into_one_dataset_at_once_lose_nothing(
        self, airflow: AirflowHome, tmp_path: Path, migrated_database: Path
    ) -> None:
        wells = [["A/01", "A/02"], ["B/01", "B/02"]]
        homes = [airflow, make_home(tmp_path / "second", migrated_database)]
        for home, own in zip(homes, wells, strict=True):
            home.write_fractal_dag(
                "plate",
                {"name": "Make Plate", "args_non_parallel": {"wells": own}},
                {"name": "Measure"},
                {"name": "Project"},
                zarr_dir=str(airflow.data),
                # Of what the other run has made, this one keeps its hands: the later merge would be refused.
                attribute_filters={"well": [well.replace("/", "") for well in own]},
            )
        store = {"AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE": str(airflow.home / "fractal_datasets.db")}

        running = [home.call(dag_calls.run_dag, "plate", {}, **store) for home in homes]

        assert [run.result(TIMEOUT_S)["state"] for run in running] == ["success", "success"]
        urls = {image.zarr_url for image in airflow.store.images("plate")}
        assert urls == {airflow.url(well) + end for own in wells for well in own for end in ("", "_mip")}


def test_run_folders_are_left_as_they_are_by_a_run_of_another_dag(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    for dag_id in ("first", "second"):
        airflow.write_fractal_dag(dag_id, {"name": "Measure"})
        assert airflow.test_dag(dag_id).state == "success"

    assert sorted(folder.name for folder in airflow.runs.iterdir()) == [".slots", "first", "second"]
