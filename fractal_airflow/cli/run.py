"""``airflow fractal run``: a workflow without a scheduler, on an Airflow metadata database made for this run.

Airflow's own ``dag.test`` wants a DAG file in a DAG folder, and writes into the metadata database. So this command
checks its input, writes a plan and a DAG file into a temporary folder, and goes on as a process
(:mod:`fractal_airflow.cli.follow`) whose Airflow has that DAG folder and a database of its own beside it: the user's
Airflow, its DAGs and its runs, is left alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, conf

from fractal_airflow.cli.datasets import read_json
from fractal_airflow.cli.output import command
from fractal_airflow.cli.workflows import parse_packages
from fractal_airflow.dataset import DatasetStore
from fractal_airflow.exceptions import DatasetError, DatasetNotFoundError, WorkflowError
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.fractal import (
    dump_workflow,
    load_workflow,
    parse_attribute_filters,
    parse_type_filters,
    resolve_workflow,
    workflow_slice,
)
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import FractalHook
from fractal_airflow.operators.templates import is_template

PLAN_FILE = "plan.json"
DAG_ID = "fractal_run"
RESOURCE_ID = "fractal_run_resource"
OPERATOR_LOGGERS = "airflow.task.operators.fractal_airflow"


@command
def run(args: Any) -> None:
    """Run a workflow, and end with its exit code."""
    plan = make_plan(args)
    prepare_dataset(get_dataset_store(), args.dataset, args.zarr_dir, args.images)
    folder = Path(tempfile.mkdtemp(prefix="fractal-run-"))
    (folder / PLAN_FILE).write_text(json.dumps(plan), encoding="utf-8")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "fractal_run.py").write_text(_DAG_FILE, encoding="utf-8")
    sys.stdout.flush()
    program = [sys.executable, "-W", "ignore", "-m", "fractal_airflow.cli.follow", str(folder)]
    os.execve(sys.executable, program, {**os.environ, **run_environment(folder, args.resource)})


_DAG_FILE = '''\
"""Made by `airflow fractal run`: the DAG of the plan beside this folder."""
from pathlib import Path

from airflow.sdk import DAG

from fractal_airflow.cli.follow import dag_of_plan

dag: DAG = dag_of_plan(Path(__file__).parent.parent)
'''


def make_plan(args: Any) -> dict[str, Any]:
    """
    Return what is to be run, all of it checked.

    :raises WorkflowError: all that is wrong with the workflow, the filters or the part to run.
    """
    workflow = load_workflow(Path(args.workflow))
    packages = parse_packages(args.package)
    steps = resolve_workflow(workflow, packages, ignore=is_template)
    first, last = args.first_task_index, args.last_task_index
    workflow_slice(len(steps), first, last)
    params = {
        "attribute_filters": parse_attribute_filters(_json_option("--attribute-filters", args.attribute_filters)),
        "type_filters": parse_type_filters(_json_option("--type-filters", args.type_filters)),
        "first_task_index": first,
        "last_task_index": last,
    }
    return {
        "workflow": dump_workflow(workflow),
        "packages": [[str(package.directory), package.python] for package in packages],
        "dataset": args.dataset,
        "zarr_dir": args.zarr_dir,
        "params": {name: value for name, value in params.items() if value is not None},
        "result": str(Path(args.result).absolute()) if args.result else None,
    }


def prepare_dataset(store: DatasetStore, name: str, zarr_dir: str, images_file: str | None) -> None:
    """
    Make the dataset, or check that it can go on.

    :raises DatasetError: where it has another ``zarr_dir``, or images are given for one that has some.
    """
    if images_file is None:
        store.get_or_create(name, zarr_dir)
        return
    data = read_json(images_file)
    images = data.get("images", data) if isinstance(data, dict) else data
    try:
        count = store.get(name).image_count
    except DatasetNotFoundError:
        count = 0
    if count:
        raise DatasetError(
            f"Dataset {name!r} has {count} images already: leave --images out to go on with them, "
            f"or delete it first with `airflow fractal dataset delete {name}`"
        )
    store.import_dataset({"name": name, "zarr_dir": zarr_dir, "images": images}, replace=True)


def run_environment(folder: Path, resource: str) -> dict[str, str]:
    """Return the environment in which Airflow knows no more than this run, its resource and the dataset store."""
    bundle = {
        "name": "fractal-run",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder / "dags")},
    }
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        # On the terminal: what the operators say, and nothing of how Airflow runs them.
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": f"{OPERATOR_LOGGERS}=INFO task=CRITICAL",
        "AIRFLOW__LOGGING__LOG_FORMAT": "%(message)s",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__FRACTAL_AIRFLOW__REPORT_DIR": str(folder / "reports"),
        f"AIRFLOW_CONN_{RESOURCE_ID.upper()}": json.dumps({"conn_type": "fractal", "extra": _resource_extra(resource)}),
    }
    store_conn_id = conf.get("fractal_airflow", "dataset_conn_id", fallback="")
    if store_conn_id:
        environment[f"AIRFLOW_CONN_{store_conn_id.upper()}"] = BaseHook.get_connection(store_conn_id).get_uri()
    return environment


def _resource_extra(name: str) -> dict[str, Any]:
    """Return a resource's configuration; where dag.test runs batches in turn, a local one runs its units at once."""
    hook = FractalHook(name)
    resource = hook.get_conn()
    extra = hook.get_configuration()
    if isinstance(resource, LocalResource):
        units = resource.slots * resource.units_at_a_time({})
        extra["jobs_runner_config"] = {
            **extra.get("jobs_runner_config", {}),
            "parallel_tasks_per_job": units,
            "units_at_a_time": units,
        }
    return extra


def _json_option(name: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise WorkflowError(f"{name}: {text!r} is not JSON: {error}") from error
