"""What the report's task is made of: places for provenance, its note's address, the units that failed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from airflow.sdk import Connection

from fractal_airflow.dataset import DatasetStore, ImageStatus, StatusRecord, StepCall, StepRun
from fractal_airflow.fractal.images import Image
from fractal_airflow.operators.api_note import api_url, note_path, remedy
from fractal_airflow.operators.provenance import write_provenance
from fractal_airflow.operators.report_file import write_report_file
from fractal_airflow.operators.report_places import (
    ObjectStorage,
    OfResource,
    ThisMachine,
    own_folder,
    place_of,
)
from fractal_airflow.operators.run_facts import failed_units, task_link
from fractal_airflow.provenance.crate import METADATA_FILE
from fractal_airflow.provenance.report import MOST_FAILURES
from tests.unit.provenance.runs import a_run, a_step

TI = SimpleNamespace(dag_id="my plate", run_id="manual__2026-11-21T12:00:00+00:00")


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """A store with the dataset of the tests' runs, on which a step has run."""
    store = DatasetStore(tmp_path / "datasets.db")
    urls = [f"{tmp_path}/zarr ü/{index}" for index in range(3)]
    store.create("my plate", f"{tmp_path}/zarr ü", [Image(zarr_url=url) for url in urls])
    for dag_id in ("plate", "other"):
        step = StepRun(dag_id, "monday", 0, "fake-tasks/Segment")
        store.submit("my plate", step, StepCall("fake-tasks", "1.0", "Segment", {}, "f", "local"), urls)
        statuses = [ImageStatus(url, "done", seconds=0.5) for url in urls]
        store.merge("my plate", step, lambda images, removed: images, statuses)
    return store


class TestProvenance:
    """Where it is written, and whose it is."""

    def test_a_report_that_is_made_anew_writes_anew(self, store: DatasetStore, tmp_path: Path) -> None:
        zarr_dir = tmp_path / "zarr ü"
        run = a_run(a_step(0, "Segment"), zarr_dir=str(zarr_dir))

        first = write_provenance(run, store, "first")
        second = write_provenance(run, store, "second")

        assert first == second == str(zarr_dir / ".fractal_airflow" / "monday")
        assert Path(second, "report.md").read_text() == "second"
        assert len(Path(second, "step_0_input.csv").read_text().splitlines()) == 4

    def test_two_dags_whose_runs_have_one_name_do_not_write_over_each_other(
        self, store: DatasetStore, tmp_path: Path
    ) -> None:
        zarr_dir = tmp_path / "zarr ü"
        step = a_step(0, "Segment")

        folders = [
            write_provenance(a_run(step, zarr_dir=str(zarr_dir), dag_id=dag_id), store, dag_id)
            for dag_id in ("plate", "other", "plate", "other")
        ]

        assert folders[0] == folders[2] != folders[1] == folders[3]
        assert [Path(folder, "report.md").read_text() for folder in folders[:2]] == ["plate", "other"]

    def test_object_storage_is_written_through_airflows_own_paths(
        self, store: DatasetStore, tmp_path: Path
    ) -> None:
        run = a_run(a_step(0, "Segment"), zarr_dir=f"file://{tmp_path}/bucket/my plate")

        folder = write_provenance(run, store, "report")

        written = tmp_path / "bucket" / "my plate" / ".fractal_airflow" / "monday"
        assert folder == f"file://{written}"
        assert (written / METADATA_FILE).is_file()
        assert place_of(folder, "local").read(f"{folder}/report.md") == b"report"

    def test_a_scheme_without_its_provider_is_an_error(self, store: DatasetStore) -> None:
        run = a_run(a_step(0, "Segment"), zarr_dir="nowhere://bucket/plate")

        with pytest.raises(ValueError, match="nowhere"):
            write_provenance(run, store, "report")

    def test_the_resource_says_whose_file_system_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = '{"type": "slurm", "work_dir": "/shared", "jobs_runner_config": {}}'
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", f'{{"conn_type": "fractal", "extra": {extra}}}')

        assert isinstance(place_of("/data/zarr", "local"), ThisMachine)
        assert isinstance(place_of("/data/zarr", "cluster"), OfResource)
        assert isinstance(place_of("s3://bucket/zarr", "cluster"), ObjectStorage)

    def test_a_clusters_folder_is_written_by_the_user_whose_jobs_run_there(
        self, store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extra = f'{{"type": "slurm", "work_dir": "{tmp_path}/runs", "jobs_runner_config": {{}}}}'
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", f'{{"conn_type": "fractal", "extra": {extra}}}')
        run = a_run(a_step(0, "Segment", resource="cluster"), zarr_dir=f"{tmp_path}/zarr ü")

        first = write_provenance(run, store, "first")
        second = write_provenance(run, store, "second")
        report = write_report_file(run, "text")

        assert first == second == f"{tmp_path}/zarr ü/.fractal_airflow/monday"
        assert Path(second, "report.md").read_text() == "second"
        assert Path(report).parent == tmp_path / "runs" / "plate" / "monday"
        assert Path(report).read_text() == "text"

    def test_a_folder_with_something_else_in_it_is_left_alone(self, tmp_path: Path) -> None:
        folders = [str(tmp_path / name) for name in ("one", "two")]
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / METADATA_FILE).write_text("{}", encoding="utf-8")

        assert own_folder(ThisMachine(), folders, "mine") == folders[1]


def refusal(code: int) -> HTTPError:
    return HTTPError("http://airflow/api", code, "no", Message(), None)


class TestNote:
    """Through which address the note of a task is set."""

    @pytest.mark.parametrize(
        ("fields", "url"),
        [
            ({"host": "airflow", "port": 8080}, "http://airflow:8080"),
            ({"host": "airflow", "schema": "https"}, "https://airflow"),
            ({"host": "https://airflow.example/base/", "port": 8443}, "https://airflow.example:8443/base"),
            ({}, "http://localhost:8080"),
        ],
    )
    def test_the_connection_says_where_the_api_is(self, fields: dict[str, Any], url: str) -> None:
        assert api_url(Connection(conn_id="api", conn_type="http", **fields)) == url

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (refusal(401), "does not let user 'ada' in (HTTP Error 401: no). Correct the login"),
            (refusal(403), "user 'ada' has not the right to edit task instances of DAG 'plate'"),
            (refusal(404), "HTTP Error 404: no (http://airflow/api)"),
            (
                URLError("Connection refused"),
                "does not answer (Connection refused). Correct the schema, host",
            ),
            (TimeoutError("timed out"), "does not answer (timed out)"),
            (KeyError("access_token"), "is not Airflow. Correct the schema, host"),
        ],
    )
    def test_what_keeps_it_from_being_set_is_said_with_what_to_do(self, error: Exception, said: str) -> None:
        assert said in remedy(error, user="ada", dag_id="plate")

    def test_names_of_users_cannot_change_the_path(self) -> None:
        path = note_path("a/b", "run?x=1#y", "wf.report")

        assert path == "/api/v2/dags/a%2Fb/dagRuns/run%3Fx%3D1%23y/taskInstances/wf.report?update_mask=note"


def test_links_are_those_of_airflow() -> None:
    run = "http://localhost:8080/dags/my%20plate/runs/manual__2026-11-21T12%3A00%3A00%2B00%3A00"

    assert task_link(TI, "0_segment.run", 3, 2) == f"{run}/tasks/0_segment.run/mapped/3?try_number=2"
    assert task_link(TI, "0_segment.merge") == f"{run}/tasks/0_segment.merge"


def test_the_images_of_a_command_that_gets_the_whole_list_failed_as_one() -> None:
    def failed(url: str, log: str | None, map_index: int | None = None) -> StatusRecord:
        now = datetime.now(UTC)
        of_run: dict[str, Any] = {"dag_id": "a", "run_id": "b", "step": 0, "task": "c", "recorded_at": now}
        return StatusRecord(url, "failed", map_index, log, error=f"e{url}", merge=1, **of_run)

    whole_list = failed_units(TI, "0_a.run", [failed("/1", "/log"), failed("/2", "/log")])
    own = failed_units(
        TI, "0_a.run", [failed("/1", "/log1", 0), failed("/2", "/log2", 0), failed("/3", None)]
    )
    converter = failed_units(TI, "0_a.run", [failed("", "/log")])

    assert [(unit.zarr_urls, unit.log) for unit in whole_list] == [(["/1", "/2"], "/log")]
    assert [unit.zarr_urls for unit in own] == [["/1"], ["/2"], ["/3"]]
    assert [unit.zarr_urls for unit in converter] == [[]]


def test_of_very_many_failed_units_those_that_a_report_names_have_links() -> None:
    now = datetime.now(UTC)
    of_run: dict[str, Any] = {"dag_id": "a", "run_id": "b", "step": 0, "task": "c", "recorded_at": now}
    statuses = [
        StatusRecord(f"/{number}", "failed", number, "/log", merge=1, **of_run) for number in range(250)
    ]

    units = failed_units(TI, "0_a.run", statuses)

    assert [bool(unit.link) for unit in units] == [True] * MOST_FAILURES + [False] * (250 - MOST_FAILURES)


def test_a_dag_file_that_has_a_report_imports_nothing_of_crates() -> None:
    import subprocess

    program = "import sys, fractal_airflow.dag; print([name for name in sys.modules if 'rocrate' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
