"""A run's plan: as a DAG, and how it is run with ``dag.test``."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from fractal_airflow.cli.metadata import DAG_ID
from fractal_airflow.cli.output import counted, print_error
from fractal_airflow.cli.progress import NothingLeft, Progress
from fractal_airflow.cli.result import read_reports, write_result
from fractal_airflow.cli.stopping import Stopped
from fractal_airflow.dag import FractalDag
from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.progress import duration
from fractal_airflow.fractal import TaskPackage
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import LOCAL, FractalHook
from fractal_airflow.operators.retries import DEFAULT_RETRIES
from fractal_airflow.task_group import slug

PLAN_FILE = "plan.json"
_NAME_LENGTH = 200  # Airflow allows 250 characters
DAG_FILE = '''\
"""Made by `airflow fractal run`: the DAG of the plan beside this folder."""
from pathlib import Path

from airflow.sdk import DAG

from fractal_airflow.cli.plan import dag_of_plan

dag: DAG = dag_of_plan(Path(__file__).parent.parent)
'''


def run_plan(folder: Path) -> int:
    """Run the plan of a folder, and tell how it ended; return the exit code."""
    plan = _read_plan(folder)
    started = time.monotonic()
    try:
        _announce(plan)
        on_cluster = FractalHook(plan["resource"]).get_conn().type != LOCAL
        error = _run_dag(folder, plan["params"], on_cluster=on_cluster)
    except (Stopped, FractalAirflowError) as problem:
        error = str(problem)
    return _tell_the_end(folder, plan, error, time.monotonic() - started)


def _tell_the_end(folder: Path, plan: dict[str, Any], error: str | None, seconds: float) -> int:
    try:
        if plan["result"]:
            write_result(Path(plan["result"]), plan["dataset"], read_reports(folder / "reports"), error)
        dataset = get_dataset_store().get(plan["dataset"])
        print(
            f"{'Failed' if error else 'Done'} after {duration(seconds)}: dataset "
            f"{dataset.name!r} is at version {dataset.version}, with {counted(dataset.image_count, 'image')}",
            flush=True,
        )
    except FractalAirflowError as problem:
        error = error or str(problem)
    if error:
        # The rest is the end of a unit's log, which was shown when the unit failed.
        print_error(error.partition("\nLast lines of ")[0])
    return 1 if error else 0


def dag_of_plan(folder: Path, **kwargs: Any) -> FractalDag:
    """Return the DAG of the plan in a folder; the generated DAG file calls it, too."""
    plan = _read_plan(folder)
    dag = FractalDag(
        f"{DAG_ID}.{slug(plan['workflow']['name'])[:_NAME_LENGTH]}",
        workflow=plan["workflow"],
        packages=[TaskPackage.from_directory(path, python=python) for path, python in plan["packages"]],
        resource=plan["resource"],
        arguments_form=plan["arguments_form"],
        deferrable=False,  # there is no triggerer, and the log is wanted here
        schedule=None,
        **kwargs,
    )
    dag.fileloc = str(folder / "dags" / "fractal_run.py")
    for group in dag.groups:
        # Nobody hears the events of this Airflow: the dataset's next one elsewhere is to tell of its merges, too.
        dag.get_task(group.reported.merge_task_id).outlets = []
    return dag


def _read_plan(folder: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    return plan


def _announce(plan: dict[str, Any]) -> None:
    dataset = get_dataset_store().get(plan["dataset"])
    count = len(plan["workflow"]["task_list"])
    first, last = plan["params"]["first_task_index"], plan["params"]["last_task_index"]
    part = "" if last - first + 1 == count else f", of which {first + 1} to {last + 1} run"
    print(
        f"Workflow {plan['workflow']['name']!r}: {counted(count, 'step')}{part}, on dataset {dataset.name!r} "
        f"(version {dataset.version}, {counted(dataset.image_count, 'image')})",
        flush=True,
    )


def _run_dag(folder: Path, params: dict[str, Any], *, on_cluster: bool) -> str | None:
    """Run the DAG in this process; return what went wrong."""
    _migrate_metadata_database()
    progress = Progress()
    # Nobody looks at a terminal that is silent for five minutes, Airflow's own pause before another try.
    tries = {"retries": DEFAULT_RETRIES if on_cluster else 0, "retry_delay": timedelta(seconds=1)}
    dag = dag_of_plan(folder, default_args={**progress.callbacks(), **tries})
    try:
        state = dag.test(run_conf=params).state
    except NothingLeft:
        return progress.error
    return progress.error or (None if state == "success" else f"The run ended as {state}: see above")


def _migrate_metadata_database() -> None:
    """Make Airflow's tables in this run's own database, as ``airflow db migrate`` does."""
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["db", "migrate"])
    args.func(args)
