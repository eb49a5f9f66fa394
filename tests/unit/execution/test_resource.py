from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.resource import load_resource_config, make_resource
from fractal_airflow.execution.slurm.resource import SlurmResource


def test_a_local_resource_needs_no_more_than_a_work_folder(tmp_path: Path) -> None:
    resource = make_resource({"work_dir": str(tmp_path)})
    assert isinstance(resource, LocalResource)
    assert resource.work_dir == tmp_path
    assert resource.slots >= 1


def test_the_slots_are_the_units_that_may_run_at_once_shared_among_batches(tmp_path: Path) -> None:
    config = {"parallel_tasks_per_job": 8, "units_at_a_time": 3}
    resource = make_resource({"work_dir": str(tmp_path), "jobs_runner_config": config})
    assert isinstance(resource, LocalResource)
    assert resource.slots == 2
    assert resource.units_at_a_time == 3


def test_units_that_run_at_a_time_make_batches_shorter(tmp_path: Path) -> None:
    config = {"parallel_tasks_per_job": 4, "units_at_a_time": 4}
    resource = make_resource({"work_dir": str(tmp_path), "jobs_runner_config": config})
    assert resource.plan(40, {}, unit_seconds=30) == [40]
    assert resource.plan(80, {}, unit_seconds=30) == [40, 40]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "work_dir: Field required"),
        ({"work_dir": "relative"}, "work_dir: .*not an absolute path"),
        ({"work_dir": "/w", "typ": "local"}, "typ: Extra inputs"),
        ({"work_dir": "/w", "type": "cloud"}, "type: Input should be 'local'"),
        ({"work_dir": "/w", "jobs_runner_config": {"parallel_tasks_per_job": 0}}, "parallel_tasks_per_job"),
        ({"work_dir": "/w", "jobs_runner_config": {"partition": "gpu"}}, "jobs_runner_config.partition"),
    ],
)
def test_a_bad_configuration_names_the_key(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ResourceError, match=problem):
        load_resource_config(config)


def test_every_problem_of_a_configuration_is_named_at_once() -> None:
    with pytest.raises(ResourceError, match=r"typ: .*work_dir: |work_dir: .*typ: "):
        load_resource_config({"typ": "local"})


def test_the_slurm_configuration_of_a_fractal_administrator_makes_a_resource_that_defers() -> None:
    config = {
        "type": "slurm_ssh",
        "jobs_remote_dir": "/shared/fractal",
        "ssh_conn_id": "cluster",
        "jobs_runner_config": {
            "default_slurm_config": {"partition": "main", "cpus_per_task": 1, "mem": "100M"},
            "gpu_slurm_config": {"partition": "gpu"},
            "batching_config": {"target_cpus_per_job": 1, "target_num_jobs": 7},
            "user_local_exports": {"CELLPOSE_LOCAL_MODELS_PATH": "CELLPOSE"},
        },
    }

    resource = make_resource(config)

    assert isinstance(resource, SlurmResource)
    assert resource.defers
    assert resource.slots == 7
    assert resource.plan(3, {}) == [1, 1, 1]
