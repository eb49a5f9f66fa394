"""The DAGs that people copy: those of dags/, and the snippets of the README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_airflow.execution.resource_config import load_resource_config
from tests.services.airflow import AirflowHome
from tests.services.task_environments import core_tasks

PROJECT = Path(__file__).resolve().parents[2]
SNIPPET = re.compile(r"<!-- run: dag -->\n```python\n(.*?)```", re.DOTALL)
ANY_PYTHON = re.compile(r"^```python$", re.MULTILINE)

LOAD_DAGS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print("DAGS " + json.dumps({"errors": bag.import_errors, "dags": {
    name: {"tasks": dag.task_ids, "docs": bool(dag.doc_md)} for name, dag in bag.dags.items()
}}))
"""


def load_dags(airflow: AirflowHome, folder: Path) -> dict[str, dict[str, object]]:
    """Parse the DAG files of a folder as Airflow does; any import error fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_DAGS, str(folder)],
        env=airflow.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("DAGS ")]
    loaded = json.loads(line.removeprefix("DAGS "))
    assert not loaded["errors"]
    return loaded["dags"]


@pytest.fixture
def snippets() -> list[str]:
    """The README's Python snippets; each of them must be marked for this test."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = SNIPPET.findall(text)
    assert len(found) == len(ANY_PYTHON.findall(text))
    return found


def test_the_snippets_of_the_readme_make_dags(
    airflow: AirflowHome, snippets: list[str], tmp_path: Path
) -> None:
    (tmp_path / "core-2.1.0").symlink_to(core_tasks().folder)
    demo = json.loads((PROJECT / "demo" / "workflow.json").read_text(encoding="utf-8"))
    tasks = [task for task in demo["task_list"] if task["task"]["pkg_name"] == "fractal-tasks-core"]
    (airflow.dags / "nuclei.json").write_text(json.dumps({"name": "nuclei", "task_list": tasks}))
    for number, snippet in enumerate(snippets):
        airflow.write_dag(f"snippet_{number}", snippet.replace("/opt/fractal", str(tmp_path)))

    dags = load_dags(airflow, airflow.dags)

    assert set(dags) == {"nuclei", "follow_up", "screen", "nuclei_on_hpc"}
    assert "0_project_image_hcs_plate.init" in dags["nuclei"]["tasks"]
    assert "nuclei.2_measure_features.merge" in dags["screen"]["tasks"]


def test_the_resource_of_the_readme_is_one() -> None:
    (snippet,) = re.findall(
        r"^```json\n(.*?)```", (PROJECT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )

    config = load_resource_config(json.loads(snippet))

    assert (config.type, config.ssh_conn_id) == ("slurm_ssh", "hpc_ssh")


def test_the_example_dags_are_documented_and_import_without_error(airflow: AirflowHome) -> None:
    core_tasks()

    dags = load_dags(airflow, PROJECT / "dags")

    examples = {"fractal_demo", "example_compose", "example_event", "example_notify", "example_new_plates"}
    assert set(dags) == {*examples, "example_nightly", "example_nightly_dataset"}
    assert all(dag["docs"] for dag in dags.values())
