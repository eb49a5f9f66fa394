"""A task instance's note in the UI. Task code cannot set it, so it goes through Airflow's own REST API."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseHook, conf

if TYPE_CHECKING:
    from airflow.sdk import Connection

TIMEOUT_S = 10.0


def set_note(ti: Any, note: str) -> bool:
    """
    Set the note of a task instance, where ``[fractal_airflow] api_conn_id`` names a way to Airflow's REST API.

    :return: whether there is such a setting.
    :raises Exception: whatever keeps it from being set.
    """
    conn_id = conf.get("fractal_airflow", "api_conn_id", fallback="")
    if not conn_id:
        return False
    connection = BaseHook.get_connection(conn_id)
    base = api_url(connection)
    login = {"username": connection.login, "password": connection.password}
    token = _call("POST", f"{base}/auth/token", login)["access_token"]
    _call("PATCH", f"{base}{note_path(ti.dag_id, ti.run_id, ti.task_id)}", {"note": note}, token)
    return True


def api_url(connection: Connection) -> str:
    """Return the address of Airflow's API server that a connection of type http describes."""
    host = (connection.host or "").rstrip("/")
    if not host:
        return str(conf.get("api", "base_url", fallback="http://localhost:8080/")).rstrip("/")
    scheme, _, rest = host.rpartition("://")
    name, slash, path = rest.partition("/")
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme or connection.schema or 'http'}://{name}{port}{slash}{path}"


def note_path(dag_id: str, run_id: str, task_id: str) -> str:
    """Return the path at which the API sets the note of a task instance."""
    parts = ("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id)
    return f"/api/v2/{'/'.join(quote(part, safe='') for part in parts)}?update_mask=note"


def _call(method: str, url: str, body: dict[str, Any], token: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return json.load(response)
