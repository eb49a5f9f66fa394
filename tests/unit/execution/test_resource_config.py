"""The configuration of a resource: as this project's administrators write it, and as Fractal's do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.resource_config import ResourceConfig, load_resource_config

SSH = {"type": "slurm_ssh", "work_dir": "/shared/fractal", "ssh_conn_id": "cluster"}


def test_a_cluster_needs_little_more_than_a_connection() -> None:
    config = load_resource_config(SSH)

    assert (config.poll_interval, config.results_wait, config.python) == (10, 60, None)
    assert (config.memory_factor, config.time_factor, config.use_mem_per_cpu) == (2, 2, False)
    assert config.exports_dir == Path("/shared/fractal/.fractal_cache")


def test_a_fractal_resource_is_read_as_it_is() -> None:
    config = load_resource_config(
        {
            "id": 3,
            "type": "slurm_sudo",
            "name": "the cluster",
            "timestamp_created": "2025-05-05T12:00:00Z",
            "host": None,
            "jobs_local_dir": "/server/jobs",
            "jobs_remote_dir": "/shared/fractal",
            "tasks_local_dir": "/server/tasks",
            "tasks_python_config": {"default_version": "3.12", "versions": {"3.12": "/usr/bin/python3.12"}},
            "tasks_pixi_config": {},
            "tasks_pip_cache_dir": None,
            "jobs_slurm_python_worker": "/opt/python3.12/bin/python",
            "jobs_poll_interval": 15,
            "prevent_new_submissions": False,
            "jobs_runner_config": {
                "default_slurm_config": {"partition": "main", "cpus_per_task": 1, "mem": "100M"},
                "gpu_slurm_config": {"partition": "gpu", "extra_lines": ["#SBATCH --gres=gpu:v100:1"]},
                "batching_config": {
                    "target_cpus_per_job": 1,
                    "max_cpus_per_job": 1,
                    "target_mem_per_job": 200,
                    "max_mem_per_job": 500,
                    "target_num_jobs": 2,
                    "max_num_jobs": 4,
                },
                "user_local_exports": {"CELLPOSE_LOCAL_MODELS_PATH": "CELLPOSE"},
            },
        }
    )

    assert (config.type, config.work_dir) == ("slurm", Path("/shared/fractal"))
    assert (config.python, config.poll_interval) == ("/opt/python3.12/bin/python", 15)
    assert config.jobs_runner_config.default_slurm_config
    assert config.jobs_runner_config.default_slurm_config.mem == 100


def test_text_of_a_form_is_read_as_json() -> None:
    text = json.dumps({"batching_config": {"max_cpus_per_job": 4}})

    config = load_resource_config({**SSH, "poll_interval": "5", "jobs_runner_config": text})

    assert config.poll_interval == 5
    assert config.jobs_runner_config.batching_config
    assert config.jobs_runner_config.batching_config.max_cpus_per_job == 4


def test_a_home_folder_is_known_on_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load_resource_config({"work_dir": "~/runs"}).work_dir == Path("/home/me/runs")

    with pytest.raises(ResourceError, match="work_dir: '~/runs' is not an absolute path"):
        load_resource_config({**SSH, "work_dir": "~/runs"})


@pytest.mark.parametrize(
    "config",
    [
        {"type": "local", "work_dir": "/w", "jobs_runner_config": {"parallel_tasks_per_job": 3}},
        {**SSH, "cache_dir": "/c", "jobs_runner_config": {"user_local_exports": {"A": "b"}}},
    ],
)
def test_what_was_read_can_be_written_and_read_again(config: dict[str, Any]) -> None:
    loaded = load_resource_config(config)
    assert ResourceConfig.model_validate_json(loaded.model_dump_json()) == loaded


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"ssh_conn_id": None}, "ssh_conn_id is missing: a resource of type 'slurm_ssh' needs"),
        ({"type": "slurm"}, "ssh_conn_id belongs to the type 'slurm_ssh', not 'slurm'"),
        ({"run_as_user": "me"}, "run_as_user belongs to the type 'slurm', not 'slurm_ssh'"),
        ({"type": "slurm", "ssh_conn_id": None, "run_as_user": "-u root"}, "'-u root' is no name of a user"),
        ({"work_dir": None}, "work_dir: Field required"),
        (
            {"jobs_remote_dir": "/other"},
            "jobs_remote_dir and work_dir are the same, and have different values",
        ),
        ({"cache_dir": "cache"}, "cache_dir: 'cache' is not an absolute path"),
        ({"work_dir": "/w/100%"}, "work_dir: '/w/100%' has '%' in it: there, SLURM cannot write"),
        ({"python": "bin/python"}, "python: 'bin/python' must be an absolute path"),
        ({"python": "-c"}, "python: '-c' must be an absolute path"),
        ({"poll_interval": 0}, "poll_interval: .*greater than 0"),
        ({"results_wait": -1}, "results_wait: .*greater than or equal to 0"),
        ({"memory_factor": 0.5}, "memory_factor: .*greater than or equal to 1"),
        ({"time_factor": "inf"}, "time_factor: .*finite"),
        ({"prevent_new_submissions": True}, "prevent_new_submissions is true"),
        (
            {"pol_interval": 1},
            r"pol_interval: .*\(the valid keys: type, work_dir, ssh_conn_id, .*poll_interval",
        ),
        ({"jobs_runner_config": "{"}, "jobs_runner_config: is no JSON"),
        (
            {"jobs_runner_config": {"slurm": 1}},
            r"jobs_runner_config\.slurm: .*valid keys: .*gpu_slurm_config",
        ),
        (
            {"jobs_runner_config": {"parallel_tasks_per_job": 2}},
            "has no effect on a resource of type 'slurm_ssh'",
        ),
        ({"jobs_runner_config": {"user_local_exports": {"a-b": "c"}}}, "'a-b' is no name of an environment"),
        (
            {"jobs_runner_config": {"batching_config": {"max_cpus": 2}}},
            r"max_cpus: .*keys: target_cpus_per_job",
        ),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ResourceError, match=problem):
        load_resource_config({**SSH, **keys})


def test_keys_of_clusters_are_refused_on_this_machine() -> None:
    config = {"work_dir": "/w", "jobs_runner_config": {"default_slurm_config": {"mem": 100}}}
    with pytest.raises(
        ResourceError, match="default_slurm_config has no effect on a resource of type 'local'"
    ):
        load_resource_config(config)
