"""The report at the end of a run, and what a run leaves below its ``zarr_dir``."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from fractal_airflow.fractal.images import Image
from tests.services.airflow import AirflowHome, RunResult
from tests.services.crate_validator import crate_issues
from tests.services.daemons import Daemon
from tests.services.ports import free_port

WELLS = ("B/03", "B/04", "C/03")
FAILING = {"name": "Measure", "alias": "Find <cells>", "args_parallel": {"fail_for": ["B/04/0"]}}


def provenance(zarr_dir: Path) -> Path:
    """The folder of the provenance of a run, of which there is one."""
    (folder,) = (zarr_dir / ".fractal_airflow").iterdir()
    return folder


def report(airflow: AirflowHome) -> str:
    """The report in the run folder."""
    (path,) = airflow.runs.glob("*/*/report.md")
    return path.read_text(encoding="utf-8")


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def entities(crate: Path) -> dict[str, dict[str, Any]]:
    metadata = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    return {entity["@id"]: entity for entity in metadata["@graph"]}


def names_of(images: list[Image]) -> list[tuple[str, dict[str, Any], dict[str, bool]]]:
    return [(image.zarr_url.split(".zarr/")[1], image.attributes, image.types) for image in images]


class TestFailures:
    """One image of several fails, and the run goes on without it."""

    @pytest.fixture
    def run(self, airflow: AirflowHome) -> RunResult:
        """A run of which one image fails."""
        airflow.add_images(*WELLS)
        again = {"name": "Measure", "alias": "Again"}
        airflow.write_fractal_dag("plate", FAILING, again, on_failure="continue", images_per_batch=1)
        return airflow.test_dag("plate")

    def test_it_ends_with_a_report_that_names_the_image_and_a_valid_crate(
        self, airflow: AirflowHome, run: RunResult
    ) -> None:
        assert (run.state, run.state_of("report")) == ("failed", "failed")
        text = report(airflow)
        url = airflow.url("B/04")
        assert text.startswith("# plate: 1 image failed in 1 step\n")
        assert f"- `{url}`: `the task ended with exit code 1: ValueError: {url} is out of focus`" in text
        assert f"`airflow fractal logs plate {url} --dag plate --run {run.run_id} --step 0`" in text
        assert f"/dags/plate/runs/{quote(run.run_id)}/tasks/0_find_cells.run/mapped/1?try_number=1)" in text
        assert "TaskExecutionError: plate: 1 image failed in 1 step. First: step 0 (Find <cells>)" in run.log

        crate = provenance(airflow.data)
        assert crate_issues(crate) == []
        actions = entities(crate)
        assert actions["#run-of-step-0"]["actionStatus"] == "http://schema.org/FailedActionStatus"
        assert "1 of 3 images failed" in actions["#run-of-step-0"]["error"]
        assert actions["#run-of-step-1"]["actionStatus"] == "http://schema.org/CompletedActionStatus"
        assert [row["status"] for row in rows(crate / "step_0_input.csv")] == ["done", "failed", "done"]
        others = [airflow.url("B/03"), airflow.url("C/03")]
        assert [row["zarr_url"] for row in rows(crate / "step_1_input.csv")] == others
        assert [row["change"] for row in rows(crate / "step_1_output.csv")] == ["edited", "edited"]


def test_a_step_that_cannot_select_is_in_the_report(airflow: AirflowHome) -> None:
    airflow.add_images(*WELLS)
    airflow.write_fractal_dag("plate", {"name": "Measure"})

    run = airflow.test_dag("plate", {"attribute_filters": {"well": ["Z99"]}})

    assert run.state_of("report") == "failed"
    assert "# plate: 1 of 1 steps failed" in run.log
    assert "Z99" in run.log.split("## 0. Measure")[1]
    assert not (airflow.data / ".fractal_airflow").exists()


def test_the_workflow_as_it_ran_gives_the_same_images_again(airflow: AirflowHome, tmp_path: Path) -> None:
    (tmp_path / "zürich 1").mkdir()
    first_dir, second_dir = tmp_path / "zürich 1" / "data", tmp_path / "again"
    airflow.write_fractal_dag(
        "plate",
        {"name": "Make Plate", "args_non_parallel": {"wells": ["B/03", "C/04"]}},
        {"name": "Project", "type_filters": {}},
        {"name": "Measure", "alias": "Not this time"},
        params={"threshold": 7},
        zarr_dir=str(first_dir),
        dataset="first",
    )
    first = airflow.test_dag("plate", {"last_task_index": 1})
    assert first.state == "success", first.log
    crate = provenance(first_dir)

    airflow.write_fractal_dag("again", dataset="second", zarr_dir=str(second_dir))
    workflow = shutil.copy(crate / "workflow.json", airflow.dags / "again.json")
    assert airflow.test_dag("again").state == "success"

    assert [task["task"]["name"] for task in json.loads(workflow.read_text())["task_list"]] == [
        "Make Plate",
        "Project",
    ]
    assert names_of(airflow.store.images("second")) == names_of(airflow.store.images("first"))
    assert len(airflow.store.images("second")) == 4
    # The validator itself cannot read a crate whose path has a space.
    assert crate_issues(shutil.copytree(crate, tmp_path / "crate")) == []


def test_provenance_that_cannot_be_written_is_a_warning(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    (airflow.data / ".fractal_airflow").write_text("a file, in the place of the folder", encoding="utf-8")
    airflow.write_fractal_dag("plate", {"name": "Measure"})

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert "The provenance of the run could not be written" in run.log
    assert "## Warnings\n\n- The provenance of the run could not be written: " in report(airflow)


class TestNote:
    """The note of the task in the UI, set through Airflow's own REST API."""

    @pytest.fixture
    def api(self, airflow: AirflowHome) -> Iterator[str]:
        """The address of an API server with one user, ``ada``, whose password is ``secret``."""
        passwords = airflow.home / "passwords.json"
        passwords.write_text(json.dumps({"ada": "secret"}), encoding="utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        settings = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__PORT": url.rpartition(":")[2],
            "AIRFLOW__API__HOST": "127.0.0.1",
        }
        command = [sys.executable, "-m", "airflow", "api-server", "--workers", "1"]
        server = Daemon(command, log=airflow.home / "api.log", environment=airflow.environment(**settings))
        try:
            server.start()
            server.wait_until(lambda: _answers(url), timeout_s=120)
            yield url
        finally:
            server.kill()

    def test_it_names_what_failed_and_where_the_report_is(self, airflow: AirflowHome, api: str) -> None:
        airflow.add_images(*WELLS)
        airflow.write_fractal_dag("plate", FAILING)

        refused = airflow.test_dag("plate", **self.connection(api, "wrong"))
        run = airflow.test_dag("plate", **self.connection(api, "secret"))

        assert "The task's note could not be written" in refused.log
        assert f"{api} (connection 'airflow_api', [fractal_airflow] api_conn_id)" in refused.log
        assert "does not let user 'ada' in" in refused.log
        assert refused.state_of("0_find_cells.merge") == "failed"
        note = self.note(api, run.run_id)
        assert note.startswith("**plate: 1 image failed in 1 step**")
        assert f"`{airflow.url('B/04')}`" in note
        assert "report.md`" in note

    def connection(self, api: str, password: str) -> dict[str, str]:
        return {
            "AIRFLOW__FRACTAL_AIRFLOW__API_CONN_ID": "airflow_api",
            "AIRFLOW_CONN_AIRFLOW_API": api.replace("http://", f"http://ada:{password}@"),
        }

    def note(self, api: str, run_id: str) -> str:
        token = _call(f"{api}/auth/token", {"username": "ada", "password": "secret"})["access_token"]
        path = f"/api/v2/dags/plate/dagRuns/{quote(run_id)}/taskInstances/report"
        return str(_call(api + path, token=token)["note"])


def _call(url: str, body: dict[str, str] | None = None, token: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with urlopen(Request(url, json.dumps(body).encode() if body else None, headers), timeout=30) as answer:
        return dict(json.load(answer))


def _answers(url: str) -> bool:
    try:
        return bool(_call(f"{url}/api/v2/version"))
    except OSError:
        return False
