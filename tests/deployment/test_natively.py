"""The deployment of docker/, all of it, on this machine: a workflow goes through every service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deployment.natively import DeployedHome, NativeDeployment, running_deployment


@pytest.fixture(scope="module")
def deployment() -> Iterator[NativeDeployment]:
    """All services of docker/compose.yaml, with a workflow in the DAG folder."""
    with running_deployment(write_workflow) as deployment:
        yield deployment


def write_workflow(home: DeployedHome) -> None:
    home.write_fractal_dag(
        "whole",
        {"name": "Convert Plate", "args_non_parallel": {"wells": ["B/03", "B/04"]}},
        {"name": "Project"},
        {"name": "Measure"},
        {"name": "Summarise"},
        dataset="whole",
        resource="hpc",
        images_per_batch=1,
    )


def test_a_whole_workflow_through_all_services(deployment: NativeDeployment) -> None:
    home = deployment.home

    run_id, state = deployment.airflow.run("whole")

    assert state == "success", deployment.airflow.logs()
    assert deployment.job_states() == ["COMPLETED"] * 9
    assert home.store.get("whole").image_count == 4
    assert {record.status for record in home.store.statuses("whole", run_id=run_id)} == {"done"}


def test_every_service_passes_its_own_health_check(deployment: NativeDeployment) -> None:
    names = [name for name, service in deployment.services.items() if service.healthcheck]

    with ThreadPoolExecutor(2) as pool:
        problems = dict(zip(names, pool.map(deployment.health, names), strict=True))

    assert problems == dict.fromkeys(names, "")


def test_its_cluster_passes_the_check_of_resources(deployment: NativeDeployment) -> None:
    checked = deployment.execute("worker-1", "airflow", "fractal", "resource", "check", "hpc")

    assert checked.returncode == 0, checked.stdout + checked.stderr
