"""A real Airflow: scheduler, DAG processor and API server as processes, driven through its REST API."""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.services.airflow import AirflowHome
from tests.services.daemons import Daemon
from tests.services.ports import free_port

COMMANDS = {
    "api-server": ("api-server", "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
COMPONENTS = ("api-server", "scheduler", "dag-processor")
TIMEOUT_S = 120.0
GRACE_S = 3.0
LOG_TAIL = 4000


def scheduler_settings() -> dict[str, str]:
    """Return the settings of an Airflow that looks often for what is to be done, on a port that is free."""
    url = f"http://127.0.0.1:{free_port()}"
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }


@dataclass
class RunningAirflow:
    """An Airflow that runs: its home, and a client of its API."""

    home: AirflowHome
    token: str = ""
    components: dict[str, Daemon] = field(default_factory=dict)
    credentials: Mapping[str, str] | None = None

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG whose file was written just now; return its id."""
        self.unpause(dag_id)
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def unpause(self, dag_id: str) -> None:
        """Wait until a DAG is known whose file was written just now, and let it be scheduled."""
        self.wait(f"DAG {dag_id} is known", lambda: self._unpaused(dag_id))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return what Airflow knows of a DAG's runs, the oldest first."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns?order_by=id&limit=100")["dag_runs"])

    def wait_for_end(self, dag_id: str, run_id: str, timeout_s: float = TIMEOUT_S) -> str:
        """Wait until a run has ended; return its state."""
        ended = ("success", "failed")
        self.wait(f"{dag_id} has ended", lambda: self._state(dag_id, run_id) in ended, timeout_s)
        return self._state(dag_id, run_id)

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Run a DAG to its end; return the run's id and state."""
        run_id = self.trigger(dag_id, conf)
        return run_id, self.wait_for_end(dag_id, run_id)

    def instances(self, dag_id: str, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
        """Return what Airflow knows of a run's task instances, by (task id, map index)."""
        page = self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=100")
        return {(each["task_id"], each["map_index"]): each for each in page["task_instances"]}

    def clear(self, dag_id: str, run_id: str, *tasks: str | tuple[str, int], wait: bool = True) -> None:
        """Clear task instances with all that comes after them, and wait until the run has ended again."""
        body = {"dag_run_id": run_id, "task_ids": tasks, "only_failed": False, "include_downstream": True}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", {**body, "dry_run": False})
        if wait:
            self.wait_for_end(dag_id, run_id)

    def mark_failed(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
        """Mark a running task instance as failed."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/{map_index}"
        self.call("PATCH", path, {"new_state": "failed"})

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed, with all of it that is not finished."""
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{quote(run_id)}", {"state": "failed"})

    # Components, by name

    def start(self, component: str) -> None:
        """Start a component again, or one more."""
        self.components.setdefault(component, _daemon(self.home, component)).start()

    def stop(self, component: str) -> None:
        """End a component in an orderly way."""
        self.components[component].stop(grace_s=30)

    def kill(self, component: str) -> None:
        """Kill a component, and at once all that it started, as if its machine had lost its power."""
        self.components[component].kill()

    def freeze(self, component: str) -> None:
        """Let a component, and all that it started, do nothing until it is thawed."""
        self.components[component].freeze()

    def thaw(self, component: str) -> None:
        self.components[component].thaw()

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"In {timeout_s:.0f} s it did not come to this: {what}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the ends of all logs, of the components and of task instances."""
        files = [*self.home.home.glob("*.log"), *sorted((self.home.home / "logs").rglob("attempt=*.log"))]
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-LOG_TAIL:]}" for file in files)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Call the API.

        :raises HTTPError: where it refuses; its ``body`` says why.
        """
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        base = self.home.settings["AIRFLOW__API__BASE_URL"]
        url = base + path if path.startswith("/auth") else f"{base}/api/v2{path}"
        try:
            with urlopen(Request(url, data, headers, method=method), timeout=60) as response:
                return dict(json.load(response))
        except HTTPError as error:
            error.msg = f"{error.msg}: {error.read().decode()}"
            raise

    def _unpaused(self, dag_id: str) -> bool:
        try:
            return not self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})["is_paused"]
        except HTTPError as error:
            if error.code == 404:
                return False
            raise

    def _state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")["state"])

    def _log_in(self) -> bool:
        try:
            method = "POST" if self.credentials else "GET"
            self.token = self.call(method, "/auth/token", self.credentials)["access_token"]
        except URLError:
            return False
        return True

    def token_of(self, user: str, password: str) -> str:
        """Return a token of another user."""
        body = {"username": user, "password": password}
        return str(self.call("POST", "/auth/token", body)["access_token"])


@contextmanager
def running_airflow(
    home: AirflowHome,
    components: Sequence[str] = COMPONENTS,
    credentials: Mapping[str, str] | None = None,
) -> Iterator[RunningAirflow]:
    """
    Run Airflow's components until the block ends; nothing that they started outlives it.

    :param components: such as ``triggerer``; more of one kind are told apart by what follows a hyphen
        and a number: ``triggerer-2``.
    :param credentials: of the user as whom the API is called; without, all are admins.
    """
    daemons = {name: _daemon(home, name) for name in components}
    try:
        for daemon in daemons.values():
            daemon.start()
        airflow = RunningAirflow(home, components=daemons, credentials=credentials)
        airflow.wait("the API server answers", airflow._log_in)
        yield airflow
    finally:
        _end(list(daemons.values()))


def _daemon(home: AirflowHome, name: str) -> Daemon:
    command = COMMANDS[re.sub(r"-\d+$", "", name)]
    return Daemon(
        [sys.executable, "-m", "airflow", *command],
        log=home.home / f"{name}.log",
        environment=home.environment(),
    )


def _end(daemons: list[Daemon]) -> None:
    running = [daemon.process for daemon in daemons if daemon.process is not None and daemon.is_running()]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and any(process.poll() is None for process in running):
        time.sleep(0.05)
    for daemon in daemons:
        daemon.kill()
