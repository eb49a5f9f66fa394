"""An Airflow beside the tests' SLURM cluster, and DAG runs on it whose time is taken."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fractal_airflow.fractal.images import Image
from tests.services.login_node import running_login_node
from tests.services.postgres import running_postgres
from tests.services.site import Site, resource, running_site
from tests.services.slurm import running_slurm

LOOK_S = 0.5  # seldom: the API server has the same two cores
TIMEOUT_S = 1800


@contextmanager
def running(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[Site]:
    """
    Run a cluster of three nodes, its login node and an Airflow until the block ends.

    :param resources: what differs from the tests' resource, by the name of each.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(running_slurm())
        node = stack.enter_context(running_login_node(cluster))
        postgres = stack.enter_context(running_postgres())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fractal-benchmark-")))
        connections = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(
                {"conn_type": "fractal", "extra": resource(cluster, **extra)}
            )
            for name, extra in resources.items()
        }
        yield stack.enter_context(
            running_site(folder / "airflow", cluster, node, postgres, settings=connections)
        )


def write_noop_package(site: Site) -> Path:
    """Write a task package whose one task does nothing, where the cluster sees it."""
    folder = site.cluster.shared / "noop"
    folder.mkdir()
    manifest = {
        "manifest_version": "2",
        "task_list": [{"name": "Noop", "type": "parallel", "executable_parallel": "noop_task.py"}],
    }
    (folder / "__FRACTAL_MANIFEST__.json").write_text(json.dumps(manifest))
    shutil.copy(Path(__file__).parent.parent / "programs" / "noop_task.py", folder)
    return folder


def dag_run(site: Site, dag_id: str, urls: list[str]) -> float:
    """Run a DAG on a new dataset of these images; return the seconds from its trigger to its end."""
    name = f"{dag_id}_{len(urls)}_{time.time_ns()}"
    site.airflow.home.store.create(name, "/", [Image(url) for url in urls])
    started = datetime.now(UTC)
    run_id = site.airflow.trigger(dag_id, {"dataset": name})
    path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}"
    while (run := site.airflow.call("GET", path))["state"] in ("queued", "running"):
        if (datetime.now(UTC) - started).total_seconds() > TIMEOUT_S:
            raise TimeoutError(f"{name} did not end")
        time.sleep(LOOK_S)
    if run["state"] != "success":
        raise RuntimeError(f"{name} ended as {run['state']}\n{site.airflow.logs()}")
    return (datetime.fromisoformat(run["end_date"]) - started).total_seconds()
