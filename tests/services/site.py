"""A site: a real Airflow, a real SLURM cluster and its login node, with a disk that all of them see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.airflow import FAKE_TASKS, AirflowHome, make_home
from tests.services.login_node import LoginNode
from tests.services.postgres import PostgresServer
from tests.services.scheduler import RunningAirflow, running_airflow, scheduler_settings
from tests.services.slurm import SlurmCluster
from tests.services.users import open_to

RESOURCE = "hpc"
PYTHON = "/usr/bin/python3"  # one that the ordinary user may run
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")

# How long Airflow takes one of its processes for alive that says nothing: minutes, unless told otherwise.
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


@dataclass(frozen=True)
class Site:
    """What runs; ``airflow.home`` is the home of all tests, ``home`` gives one with folders of its own."""

    cluster: SlurmCluster
    login_node: LoginNode
    airflow: RunningAirflow

    def home(self, name: str) -> AirflowHome:
        """Return the Airflow home, with datasets in a folder of this name that jobs can write."""
        home = self.airflow.home
        folder = open_to(self.cluster.shared / "data" / name, self.cluster.user)
        return AirflowHome(home.home, home.settings, str(folder), fake_tasks(self.cluster), PYTHON)

    def add_images(self, home: AirflowHome, *wells: str, dataset: str, **types: bool) -> list[str]:
        """Add images to a dataset, as :meth:`AirflowHome.add_images` does, that jobs can write."""
        urls = home.add_images(*wells, dataset=dataset, **types)
        for path in (home.data, *home.data.rglob("*")):
            shutil.chown(path, self.cluster.user.pw_name)
        return urls

    def mend(self) -> None:
        """End all jobs, and start again whatever does not run."""
        if not self.login_node.is_running():
            self.login_node.start()
        self.login_node.release()
        self.cluster.mend()
        self.cluster.cancel_all()
        for name, component in self.airflow.components.items():
            component.thaw()
            if name in COMPONENTS and not component.is_running():
                self.airflow.start(name)


def fake_tasks(cluster: SlurmCluster) -> Path:
    """Return a copy of the fake task package that jobs can read."""
    folder = cluster.folder / "fake_tasks"
    if not folder.exists():
        shutil.copytree(FAKE_TASKS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def resource(cluster: SlurmCluster, **extra: Any) -> dict[str, Any]:
    """Return the configuration of the cluster as a resource; ``extra`` replaces keys of it."""
    return {
        "type": "slurm_ssh",
        "ssh_conn_id": f"{RESOURCE}_ssh",
        "work_dir": str(cluster.shared / "runs"),
        "python": PYTHON,
        "poll_interval": 1,
        "results_wait": 10,
        "jobs_runner_config": {
            "default_slurm_config": {"partition": "main", "cpus_per_task": 1, "mem": "200"},
            "batching_config": {"max_cpus_per_job": 2, "max_mem_per_job": "2G", "max_num_jobs": 50},
        },
        **extra,
    }


def connections(cluster: SlurmCluster, login_node: LoginNode, **extra: Any) -> dict[str, str]:
    """Return the Airflow connections ``hpc`` and ``hpc_ssh``, as settings of an Airflow home."""
    hpc = {"conn_type": "fractal", "extra": resource(cluster, **extra)}
    return {
        f"AIRFLOW_CONN_{RESOURCE.upper()}": json.dumps(hpc),
        f"AIRFLOW_CONN_{RESOURCE.upper()}_SSH": login_node.connection(
            key_file=str(login_node.key_file), host_key=login_node.host_key
        ),
    }


@contextmanager
def running_site(
    folder: Path,
    cluster: SlurmCluster,
    login_node: LoginNode,
    postgres: PostgresServer,
    *,
    components: Sequence[str] = COMPONENTS,
    settings: dict[str, str] | None = None,
    **extra: Any,
) -> Iterator[Site]:
    """
    Run an Airflow beside a cluster until the block ends.

    :param folder: where its home is made.
    :param settings: settings of Airflow, which go before those of :data:`SETTINGS`.
    :param extra: keys of the resource, see :func:`resource`.
    """
    url = postgres.create_database()
    database = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url.replace("://", "+psycopg2://", 1),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url.replace("://", "+psycopg://", 1),
    }
    known = connections(cluster, login_node, **extra)
    home = make_home(
        folder, None, **{**scheduler_settings(), **SETTINGS, **database, **known, **(settings or {})}
    )
    with running_airflow(home, components) as airflow:
        yield Site(cluster, login_node, airflow)
