"""An Airflow of the tests' own: a home folder, DAG files, the command line, and ``dag.test``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.dataset import DatasetStore

FAKE_TASKS = Path(__file__).parent.parent / "fake_tasks"

_TEST_DAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag_id, conf, runs = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
bag = DagBag()
assert not bag.import_errors, bag.import_errors
for _ in range(runs):
    run = bag.dags[dag_id].test(run_conf=conf)
states = [
    [ti.task_id, ti.map_index, str(ti.state), ti.rendered_map_index] for ti in run.get_task_instances()
]
print("RUN " + json.dumps({"state": str(run.state), "run_id": run.run_id, "instances": states}))
"""


@dataclass(frozen=True)
class RunResult:
    """How a DAG run ended: its state, and that of each task instance by (task id, map index)."""

    state: str
    run_id: str
    states: dict[tuple[str, int], str]
    labels: dict[tuple[str, int], str | None]
    log: str


@dataclass(frozen=True)
class AirflowHome:
    """A home folder with a migrated metadata database, and what can be done with it."""

    home: Path
    settings: dict[str, str]

    @property
    def dags(self) -> Path:
        return self.home / "dags"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def runs(self) -> Path:
        return self.home / "fractal_runs"

    @property
    def store(self) -> DatasetStore:
        return DatasetStore(f"sqlite:///{self.home / 'fractal_datasets.db'}")

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        return {**kept, "AIRFLOW_HOME": str(self.home), **self.settings}

    def write_dag(self, name: str, text: str) -> None:
        (self.dags / f"{name}.py").write_text(text, encoding="utf-8")

    def write_workflow(self, name: str, *tasks: dict[str, Any]) -> Path:
        """Write a workflow of the fake tasks; a task is ``{"name", "args_parallel"?, …}``."""
        task_list = [
            {**{key: value for key, value in task.items() if key != "name"}, "task": fake_task(task["name"])}
            for task in tasks
        ]
        path = self.dags / f"{name}.json"
        path.write_text(json.dumps({"name": name, "task_list": task_list}), encoding="utf-8")
        return path

    def cli(self, *args: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "airflow"), *args]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=300, **kwargs
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def test_dag(self, dag_id: str, conf: dict[str, Any] | None = None, runs: int = 1) -> RunResult:
        """Run a DAG with ``dag.test`` in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", _TEST_DAG, dag_id, json.dumps(conf or {}), str(runs)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RUN ")]
        assert lines, done.stdout
        run = json.loads(lines[-1].removeprefix("RUN "))
        return RunResult(
            state=run["state"],
            run_id=run["run_id"],
            states={(task, index): state for task, index, state, _ in run["instances"]},
            labels={(task, index): label for task, index, _, label in run["instances"]},
            log=done.stdout,
        )


def fake_task(name: str) -> dict[str, Any]:
    """Name a task of the fake package, as a workflow file does."""
    return {"pkg_name": "fake_tasks", "version": None, "name": name}


def make_home(folder: Path, migrated_database: Path | None = None, **settings: str) -> AirflowHome:
    """Make a home folder; without a database to copy, a new one is migrated."""
    home = AirflowHome(
        folder,
        {
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
            **settings,
        },
    )
    home.dags.mkdir(parents=True)
    home.data.mkdir()
    if migrated_database is None:
        home.cli("db", "migrate")
    else:
        (folder / "airflow.db").write_bytes(migrated_database.read_bytes())
    return home
