"""Buttons of a task instance in Airflow's UI: the logs of its units, and the asset page of its dataset.

They lead to the web app of this package (:mod:`fractal_airflow.web`), which looks up what a worker cannot know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

PREFIX = "/fractal"
"""Where the API server has the web app."""


class UnitLogsLink(BaseOperatorLink):
    """The logs of the units that a task instance runs."""

    name = "Unit logs"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the page; an instance that is not mapped runs one command over all images."""
        last = ("command",) if ti_key.map_index < 0 else ("units", ti_key.map_index)
        return page_url(ti_key.dag_id, ti_key.run_id, operator.step_number, *last)


class DatasetLink(BaseOperatorLink):
    """The asset page of the dataset that a step works on."""

    name = "Dataset"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return an address that leads there: an asset's number is known to the API server alone."""
        return page_url(ti_key.dag_id, ti_key.run_id, operator.step_number, "dataset")


def page_url(dag_id: str, run_id: str, step: int, *place: str | int) -> str:
    """Return the address of a page of the web app about a step of a run."""
    parts = ("dags", dag_id, "runs", run_id, "steps", step, *place)
    return airflow_url(PREFIX + "".join(f"/{quote(str(part), safe='')}" for part in parts))


def airflow_url(path: str) -> str:
    """Return the address of a page of Airflow's API server; without the host where it does not say its own."""
    return (conf.get("api", "base_url", fallback="") or "").rstrip("/") + path
