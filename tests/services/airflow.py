"""An Airflow of the tests' own: a home folder, DAG files, datasets, the command line, and ``dag.test``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.dataset import DatasetStore
from tests.services import dag_calls, warm_airflow

FAKE_TASKS = Path(__file__).parent.parent / "fake_tasks"
TIMEOUT_S = 300

_FRACTAL_DAG = """\
from datetime import timedelta

from fractal_airflow import FractalDag, TaskPackage

FractalDag(
    {dag_id!r},
    workflow="{dag_id}.json",
    packages=[TaskPackage.from_directory({package!r}, {python!r})],
    **{options!r},
)
"""


@dataclass(frozen=True)
class RunResult:
    """How a DAG run ended: its state, and what is to say of each task instance, by (task id, map index)."""

    state: str
    run_id: str
    states: dict[tuple[str, int], str]
    labels: dict[tuple[str, int], str | None]
    tries: dict[tuple[str, int], int]
    log: str

    def state_of(self, task_id: str, map_index: int = -1) -> str:
        return self.states[task_id, map_index]

    def labels_of(self, task_id: str) -> list[str | None]:
        return [label for (task, _), label in sorted(self.labels.items()) if task == task_id]


@dataclass(frozen=True)
class AirflowHome:
    """
    A home folder with a migrated metadata database, and what can be done with it.

    :param data_name: the folder of the tests' datasets; an absolute path may lie elsewhere.
    :param package: the task package of the workflows.
    :param python: the interpreter that its tasks run under.
    """

    home: Path
    settings: dict[str, str]
    data_name: str = "data"
    package: Path = FAKE_TASKS
    python: str = sys.executable

    @property
    def dags(self) -> Path:
        return self.home / "dags"

    @property
    def data(self) -> Path:
        """The ``zarr_dir`` of the tests' datasets."""
        return self.home / self.data_name

    @property
    def runs(self) -> Path:
        return self.home / "fractal_runs"

    @property
    def store(self) -> DatasetStore:
        return DatasetStore(f"sqlite:///{self.home / 'fractal_datasets.db'}")

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        return {**kept, "AIRFLOW_HOME": str(self.home), **self.settings, **settings}

    # Files

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

    def write_fractal_dag(
        self, dag_id: str, *tasks: dict[str, Any], python: str = "", **options: Any
    ) -> None:
        """Write a workflow of the fake tasks, and its DAG; the dataset is ``plate`` where it is not given."""
        self.write_workflow(dag_id, *tasks)
        options = {"dataset": "plate", "zarr_dir": str(self.data), **options}
        self.write_dag(
            dag_id,
            _FRACTAL_DAG.format(
                dag_id=dag_id, package=str(self.package), python=python or self.python, options=options
            ),
        )

    # Images

    def url(self, well: str) -> str:
        return f"{self.data}/plate.zarr/{well}/0"

    def add_images(self, *wells: str, dataset: str = "plate", **types: bool) -> list[str]:
        """Add an image a well to a dataset, which is made if it is new; return their ``zarr_url``."""
        urls = [self.url(well) for well in wells]
        for url in urls:
            Path(url).mkdir(parents=True)
        images = [
            {"zarr_url": url, "types": types, "attributes": {"plate": "plate", "well": well.replace("/", "")}}
            for url, well in zip(urls, wells, strict=True)
        ]
        self.store.get_or_create(dataset, str(self.data))
        known = self.store.export(dataset)
        self.store.import_dataset({**known, "images": known["images"] + images}, replace=True)
        return urls

    def measured(self, *wells: str) -> list[int]:
        """Return how often the image of each well was measured."""
        notes = [Path(self.url(well), "runs.txt") for well in wells]
        return [len(note.read_text(encoding="utf-8").splitlines()) if note.exists() else 0 for note in notes]

    def statuses(self, run_id: str | None = None, dataset: str = "plate") -> dict[str, str]:
        """Return the newest status of each image, by the end of its ``zarr_url``."""
        records = self.store.statuses(dataset, run_id=run_id)
        return {re.sub(r".*\.zarr/", "", record.zarr_url): record.status for record in records}

    # Running

    def cli(self, *args: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "airflow"), *args]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=TIMEOUT_S, **kwargs
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def call(self, function: Callable[..., Any], *args: Any, **settings: str) -> Future[Any]:
        """Call a function in a process of this Airflow."""
        # A warm process has read Airflow's defaults, of another home, before it comes here.
        defaults = {
            "AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE": str(self.home / "fractal_datasets.db"),
            "AIRFLOW__FRACTAL_AIRFLOW__WORK_DIR": str(self.runs),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
        }
        environment = self.environment(**{**defaults, **settings})
        return warm_airflow.submit(environment, self.home / "out.txt", function, *args)

    def test_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, **settings: str) -> RunResult:
        """Run a DAG with ``dag.test`` in a process of its own."""
        log = self.home / "out.txt"
        start = log.stat().st_size if log.exists() else 0
        run = self.call(dag_calls.run_dag, dag_id, dict(conf or {}), **settings).result(TIMEOUT_S)
        by_instance = {(task, index): rest for task, index, *rest in run["instances"]}
        return RunResult(
            state=run["state"],
            run_id=run["run_id"],
            states={key: state for key, (state, _, _) in by_instance.items()},
            labels={key: label for key, (_, label, _) in by_instance.items()},
            tries={key: tries for key, (_, _, tries) in by_instance.items()},
            log=log.read_bytes()[start:].decode("utf-8", "replace"),
        )

    def import_errors(self) -> dict[str, str]:
        """Parse all DAG files; return what is wrong, by the file's name."""
        errors = self.call(dag_calls.import_errors).result(TIMEOUT_S)
        return {Path(file).name: text for file, text in errors.items()}


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
