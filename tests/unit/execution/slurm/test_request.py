"""From a resource's configuration, a task's meta and a run's choices to a job."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.request import JobRequest, job_name, job_request
from tests.unit.execution.slurm.configs import slurm_config

DEFAULT = {"partition": "main", "cpus_per_task": 1, "mem": "1G", "account": "core"}
BATCHING = {"max_cpus_per_job": 8, "max_mem_per_job": "16G"}


def request(
    meta: dict[str, Any] | None = None,
    n_units: int = 4,
    *,
    config: ResourceConfig | None = None,
    label: str = "B/03/0",
    **kwargs: Any,
) -> JobRequest:
    config = config or slurm_config(BATCHING, default=DEFAULT)
    return job_request(config, meta or {}, n_units, label=label, python="python3", program="/r.pyz", **kwargs)


def options(job: JobRequest) -> list[str]:
    """Return the options in a job's script."""
    lines = job.script.splitlines()
    return [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]


def test_a_job_asks_for_as_much_more_as_units_run_at_a_time() -> None:
    job = request({"cpus_per_task": 2, "mem": "3G"}, 10)

    assert (job.parallel, job.cpus, job.mem_mb, job.unit_mem_mb, job.gpus) == (4, 8, 12000, 3000, 0)
    assert {"cpus-per-task=8", "mem=12000M", "partition=main"} <= set(options(job))


def test_time_is_that_of_a_unit_and_a_job_asks_for_as_much_more_as_units_run_in_turn() -> None:
    meta = {"time": "00:30:00", "cpus_per_task": 2}

    assert request(meta, 4).time_limit_s == 1800
    assert request(meta, 5).time_limit_s == 3600
    assert "time=01:30:00" in options(request(meta, 9))


def test_a_time_that_nobody_gave_is_left_to_the_cluster() -> None:
    job = request()
    assert job.time_limit_s is None
    assert not [option for option in options(job) if option.startswith("time")]


def test_no_limit_stays_none_however_many_units_there_are() -> None:
    job = request({"time": "UNLIMITED"}, 100, time_factor=2)
    assert job.time_limit_s is None
    assert "time=UNLIMITED" in options(job)


def test_more_memory_may_mean_fewer_units_at_a_time_and_so_more_time() -> None:
    meta = {"mem": "4G", "time": 10}

    usual, more = request(meta), request(meta, memory_factor=2)

    assert (usual.parallel, usual.mem_mb, usual.time_limit_s) == (4, 16000, 600)
    assert (more.parallel, more.mem_mb, more.time_limit_s) == (2, 16000, 1200)


def test_no_factor_goes_above_the_maximum_of_a_job() -> None:
    batching = {**BATCHING, "max_time_per_job": "02:00:00"}
    config = slurm_config(batching, default=DEFAULT)

    job = request({"mem": "10G", "time": 45}, 1, config=config, memory_factor=4, time_factor=4)

    assert (job.unit_mem_mb, job.time_limit_s) == (16000, 7200)


def test_time_is_rounded_up_to_minutes_as_slurm_counts() -> None:
    assert request({"time": 1}, 1, time_factor=1.01).time_limit_s == 120


def test_memory_by_core_is_rounded_up() -> None:
    config = slurm_config(default={"mem": "4G", "cpus_per_task": 3}, use_mem_per_cpu=True)

    job = request(config=config, n_units=1)

    assert "mem-per-cpu=1334M" in options(job)
    assert not [option for option in options(job) if option.startswith("mem=")]
    assert job.mem_mb == 4000


def test_the_runs_account_goes_before_the_resources() -> None:
    assert "account=core" in options(request())
    job = request(account="my-lab")
    assert job.account == "my-lab"
    assert "account=my-lab" in options(job)


@pytest.mark.parametrize("account", ["two words", "a,b", "-A", "a\n#SBATCH --hold", "a'b"])
def test_what_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(ResourceError, match=r"slurm_account: .* is no name of an account"):
        request(account=account)


@pytest.mark.parametrize("lines", ["module load a\r\nexport B=1", ["module load a", "export B=1"]])
def test_the_runs_lines_come_before_the_program(lines: Any) -> None:
    assert "\nmodule load a\nexport B=1\n\ncd " in request(worker_init=lines).script


def test_a_line_that_is_none_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"worker_init: 'a\\x00b' is no line"):
        request(worker_init=["a\0b"])


def test_exports_are_paths_in_the_cache_folder() -> None:
    config = slurm_config(exports={"MODELS": "CELL POSE", "ALL": "/models"})
    script = request(config=config).script
    assert "export MODELS='/shared/fractal/.fractal_cache/CELL POSE'\nexport ALL=/models\n" in script

    config = slurm_config(exports={"MODELS": "x"}, cache_dir="/home/me/.cache")
    assert "export MODELS=/home/me/.cache/x\n" in request(config=config).script


class TestGpus:
    GPU = slurm_config(default=DEFAULT, gpu={"partition": "gpu", "gres": "gpu:a100:2"})

    def test_a_task_that_needs_one_goes_where_they_are(self) -> None:
        job = request({"needs_gpu": True}, config=self.GPU)

        assert (job.parallel, job.gpus, job.mem_mb) == (2, 2, 2000)
        assert {"partition=gpu", "gres=gpu:a100:2"} <= set(options(job))

    def test_a_task_that_needs_none_does_not(self) -> None:
        job = request(config=self.GPU)
        assert job.gpus == 0
        assert "partition=main" in options(job)

    def test_the_tasks_own_number_replaces_the_resources(self) -> None:
        job = request({"needs_gpu": True, "gpus": 4}, config=self.GPU)
        assert job.gpus == 4
        assert "gpus=4" in options(job)
        assert not [option for option in options(job) if option.startswith("gres")]

    def test_lines_that_ask_for_gpus_count(self) -> None:
        gpu = {"partition": "gpu", "extra_lines": ["#SBATCH --gres=gpu:v100:3"]}
        assert request({"needs_gpu": True}, config=slurm_config(gpu=gpu)).gpus == 3

    def test_a_partition_whose_jobs_have_one_anyway_is_taken_at_its_word(self) -> None:
        job = request({"needs_gpu": True}, config=slurm_config(gpu={"partition": "gpu"}))
        assert job.gpus == 1
        assert not [option for option in options(job) if option.startswith("g")]

    def test_where_the_resource_says_nothing_of_gpus_one_is_asked_for(self) -> None:
        job = request({"needs_gpu": True})
        assert job.gpus == 1
        assert "gres=gpu:1" in options(job)


def test_lines_of_the_resource_and_of_the_task_are_joined_and_said_once() -> None:
    config = slurm_config(default={"extra_lines": ["#SBATCH --nice=5", "module load a"]})
    meta = {"extra_lines": ["module load b", "module load a", "#SBATCH --qos=high"]}

    job = request(meta, config=config)

    assert options(job)[-2:] == ["nice=5", "qos=high"]
    assert "\nmodule load a\nmodule load b\n\n" in job.script


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("B/03/0 … B/12/0 (10)", "B-03-0-B-12-0-10"),
        ("a,b c", "a-b-c"),
        ("--hold", "hold"),
        ("…", "fractal"),
        ("", "fractal"),
        ("x" * 100, "x" * 40),
    ],
)
def test_the_name_of_a_job_is_plain(label: str, name: str) -> None:
    assert job_name(label) == name
    assert request(label=label).name == name
