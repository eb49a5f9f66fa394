"""The demo's own Airflow: its home folder and configuration, on ports that are free."""

from __future__ import annotations

import base64
import configparser
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
USUAL_PORT = 8080


@dataclass(frozen=True)
class AirflowHome:
    """An AIRFLOW_HOME folder."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "airflow.cfg"

    @property
    def dataset_store(self) -> Path:
        """The SQLite file of the dataset store."""
        return self.folder / "fractal_datasets.db"

    @property
    def work_dir(self) -> Path:
        """Where units find their arguments and leave their outputs and logs."""
        return self.folder / "fractal_runs"

    def component_log(self, component: str) -> Path:
        return self.folder / "logs" / f"{component}.log"

    def task_log(self, dag_id: str, run_id: str, task: dict[str, object]) -> Path:
        """Return the log of a task instance, as Airflow names it by default."""
        folder = self.folder / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task['task_id']}"
        mapped = folder / f"map_index={task['map_index']}" if task["map_index"] != -1 else folder
        return mapped / f"attempt={task['try_number']}.log"

    def write_config(self, dags_folder: Path, port: int) -> None:
        """Write airflow.cfg; the secrets of an earlier one are kept, so that nothing stored is lost."""
        earlier = configparser.ConfigParser(interpolation=None)
        earlier.read(self.config_file)
        config = configparser.ConfigParser(interpolation=None)
        config.read_dict(self._settings(dags_folder, port))
        for section, option in (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")):
            config[section][option] = earlier.get(section, option, fallback=_new_secret())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.touch(mode=0o600)
        with self.config_file.open("w") as file:
            config.write(file)

    def _settings(self, dags_folder: Path, port: int) -> dict[str, dict[str, object]]:
        url = f"http://{HOST}:{port}"
        return {
            "core": {
                "dags_folder": _escape(dags_folder),
                "executor": "LocalExecutor",
                "load_examples": False,
                "parallelism": (os.cpu_count() or 1) + 2,  # each is a process from the start
                "simple_auth_manager_all_admins": True,  # no password: only this machine reaches it
                "execution_api_server_url": f"{url}/execution/",
            },
            "database": {"sql_alchemy_conn": f"sqlite:///{_escape(self.folder / 'airflow.db')}"},
            "api": {"host": HOST, "port": port, "base_url": url},
            "api_auth": {},
            # The steps of a small plate take seconds: look often for what is ready, and for what has ended.
            "scheduler": {"scheduler_idle_sleep_time": 0.2},
            "workers": {"min_heartbeat_interval": 1},
            "fractal_airflow": {
                "dataset_file": _escape(self.dataset_store),
                "work_dir": _escape(self.work_dir),
            },
        }

    def environment(self) -> dict[str, str]:
        """Return the variables for Airflow's processes: without settings of another Airflow."""
        foreign = ("AIRFLOW_", "_AIRFLOW_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**inherited, "AIRFLOW_HOME": str(self.folder), "AIRFLOW_CONFIG": str(self.config_file)}


def _escape(path: Path) -> str:
    """Return a path as Airflow reads it from its configuration, in which % has a meaning."""
    return str(path).replace("%", "%%")


def _new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def free_port(preferred: int = USUAL_PORT) -> int:
    """Return the preferred port, or any other that is free where it is taken."""
    for port in (preferred, 0):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return int(candidate.getsockname()[1])
    raise OSError(f"No port is free on {HOST}")
