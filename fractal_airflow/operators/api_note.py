"""A task instance's note in the UI. Task code cannot set it, so it goes through Airflow's own REST API."""

from __future__ import annotations

import json
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote

from airflow.sdk import BaseHook, conf

from fractal_airflow.exceptions import FractalAirflowError

if TYPE_CHECKING:
    from airflow.sdk import Connection

TIMEOUT_S = 10.0


def set_note(ti: Any, note: str) -> bool:
    """
    Set the note of a task instance, where ``[fractal_airflow] api_conn_id`` names a way to Airflow's REST API.

    :return: whether there is such a setting.
    :raises FractalAirflowError: if it could not be set; it says what to correct.
    """
    conn_id = conf.get("fractal_airflow", "api_conn_id", fallback="")
    if not conn_id:
        return False
    connection = BaseHook.get_connection(conn_id)
    base = api_url(connection)
    login = {"username": connection.login, "password": connection.password}
    try:
        token = _call("POST", f"{base}/auth/token", login)["access_token"]
        _call("PATCH", f"{base}{note_path(ti.dag_id, ti.run_id, ti.task_id)}", {"note": note}, token)
    except (OSError, ValueError, LookupError, TypeError) as error:
        what_to_do = remedy(error, user=connection.login, dag_id=ti.dag_id)
        raise FractalAirflowError(
            f"Airflow's REST API at {base} (connection {conn_id!r}, [fractal_airflow] api_conn_id): {what_to_do}"
        ) from error
    return True


def remedy(error: Exception, *, user: str | None, dag_id: str) -> str:
    """Return what the API has against a call, and what to correct."""
    if isinstance(error, HTTPError) and error.code == HTTPStatus.UNAUTHORIZED:
        return f"it does not let user {user!r} in ({error}). Correct the login and the password of the connection"
    if isinstance(error, HTTPError) and error.code == HTTPStatus.FORBIDDEN:
        return f"user {user!r} has not the right to edit task instances of DAG {dag_id!r} ({error}). Give it that"
    if isinstance(error, HTTPError):
        return f"{error} ({error.url})"
    if isinstance(error, OSError):
        reason = getattr(error, "reason", error)
        return f"it does not answer ({reason}). Correct the schema, host and port of the connection"
    return "what answers there is not Airflow. Correct the schema, host and port of the connection"


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
