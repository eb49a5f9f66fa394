"""The few calls of Airflow's REST API that the demo makes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from command import DemoError

TIMEOUT_S = 30
PAGE = 100


class AirflowApiError(DemoError):
    """The API server refused a call."""


class AirflowApi:
    """A client of the API server of an Airflow that asks for no password."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._token: str | None = None

    def is_up(self) -> bool:
        """Tell whether the API server answers."""
        try:
            self.call("GET", "/api/v2/version")
        except URLError:
            return False
        return True

    def last_parsed(self, dag_id: str) -> datetime | None:
        """Return when a DAG's file was parsed last, or None where the DAG is not known."""
        try:
            dag = self.call("GET", f"/api/v2/dags/{dag_id}")
        except AirflowApiError:
            return None
        text = dag.get("last_parsed_time")
        return datetime.fromisoformat(text) if text else None

    def import_errors(self) -> list[str]:
        """Return what is wrong with DAG files."""
        errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in errors]

    def trigger(self, dag_id: str, run_id: str, params: dict[str, Any]) -> None:
        """Start a run of a DAG."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        body = {"dag_run_id": run_id, "logical_date": None, "conf": params}
        self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}")["state"])

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the tasks of a DAG."""
        return list(self.call("GET", f"/api/v2/dags/{dag_id}/tasks")["tasks"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run, mapped ones too."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances"
        instances: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", f"{path}?limit={PAGE}&offset={len(instances)}&order_by=id")
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return instances

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Call the API.

        :raises AirflowApiError: where the API server refuses.
        :raises URLError: where it does not answer.
        """
        if self._token is None and path != "/auth/token":
            self._token = self.call("GET", "/auth/token")["access_token"]
        request = Request(self.url + path, method=method, data=json.dumps(body).encode() if body else None)
        request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urlopen(request, timeout=TIMEOUT_S) as response:
                return dict(json.load(response))
        except HTTPError as error:
            raise AirflowApiError(f"{method} {path}: {error.code} {error.read().decode()}") from error
