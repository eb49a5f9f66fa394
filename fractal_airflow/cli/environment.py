"""The environment of a run's own Airflow: what it knows of the user's, and how much it says."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from fractal_airflow.exceptions import ResourceError, WorkflowError
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.fractal import TaskPackage
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import FractalHook

_SETTINGS = re.compile(r"_*AIRFLOW_(?!VAR_|CONN_)")

# Errors are told once (see `progress`), without the way that they took through Airflow.
_LOG_LEVELS = (
    "airflow.task.operators.fractal_airflow.operators.run=INFO "
    "airflow.task.operators.fractal_airflow.operators.merge=INFO "
    "airflow.task.operators.fractal_airflow.operators.select=CRITICAL "
    "task=CRITICAL airflow.sdk.definitions.dag=ERROR"
)


def run_environment(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    """
    Return an environment in which Airflow is at home in a folder, and knows nothing of the user's settings.

    :param variables: what it knows of the user's Airflow after all.
    """
    return {
        **{name: value for name, value in os.environ.items() if not _SETTINGS.match(name)},
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # On the terminal: what the operators say, and nothing of how Airflow runs them.
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": _LOG_LEVELS,
        "AIRFLOW__LOGGING__LOG_FORMAT": "%(message)s",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__FRACTAL_AIRFLOW__REPORT_DIR": str(folder / "reports"),
        **variables,
    }


def users_airflow(resource: str, packages: Sequence[TaskPackage]) -> dict[str, str]:
    """
    Return, as environment variables, what a run must know of the user's Airflow: resource and store.

    :raises FractalAirflowError: where one of them is missing or wrong.
    """
    get_dataset_store()
    extra = _resource_extra(resource, packages)
    variables = {
        "AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE": conf.get("fractal_airflow", "dataset_file"),
        # By its own name: the history keeps that, and the logs of the run are found by it.
        f"AIRFLOW_CONN_{resource.upper()}": json.dumps({"conn_type": "fractal", "extra": extra}),
    }
    store_conn_id = conf.get("fractal_airflow", "dataset_conn_id", fallback="")
    if store_conn_id:
        variables["AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID"] = store_conn_id
    for conn_id in filter(None, [store_conn_id, extra.get("ssh_conn_id")]):
        variables[f"AIRFLOW_CONN_{conn_id.upper()}"] = _connection(conn_id)
    return variables


def _connection(conn_id: str) -> str:
    try:
        return BaseHook.get_connection(conn_id).as_json()
    except AirflowNotFoundException as error:
        raise ResourceError(
            f"There is no Airflow connection {conn_id!r}: add it, or correct what names it"
        ) from error


def _resource_extra(name: str, packages: Sequence[TaskPackage]) -> dict[str, Any]:
    """Return a resource's configuration; ``dag.test`` runs one batch at a time, so it is to be a wide one."""
    hook = FractalHook(name)
    resource = hook.get_conn()
    extra = hook.get_configuration()
    if isinstance(resource, LocalResource):
        _check_interpreters(packages)
        units = resource.slots * resource.units_at_a_time
        extra["jobs_runner_config"] = {
            **extra.get("jobs_runner_config", {}),
            "parallel_tasks_per_job": units,
            "units_at_a_time": units,
        }
    return extra


def _check_interpreters(packages: Sequence[TaskPackage]) -> None:
    missing = [
        f"Package {package.name}: its Python {package.python!r} does not exist or cannot be started: "
        "name another one after the folder in --package, after a colon"
        for package in packages
        if shutil.which(package.python) is None
    ]
    if missing:
        raise WorkflowError("\n".join(missing))
