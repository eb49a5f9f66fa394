"""What SLURM may be asked for, as administrators and tasks write it."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.slurm.options import SlurmOptions, format_time, gpu_count, slurm_options
from fractal_airflow.fractal.meta import parse_time
from tests.unit.execution.slurm.configs import slurm_config


def test_values_are_read_in_all_their_spellings() -> None:
    options = SlurmOptions(mem="1.5g", time=90, nodes="1-2")  # type: ignore[arg-type]
    assert (options.mem, options.time, options.time_s, options.nodes) == (1500, "01:30:00", 5400, "1-2")


def test_what_was_read_can_be_written_and_read_again() -> None:
    config = slurm_config(
        {"max_mem_per_job": "64G", "max_time_per_job": "2-0"},
        default={"mem": "100M", "time": 90, "gpus": "a100:1"},
    )
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_gpu_set_replaces_keys_of_the_default_and_meta_those_of_both() -> None:
    default = SlurmOptions(partition="main", mem=100, constraint="slow", extra_lines=["module load a"])
    gpu = SlurmOptions(partition="gpu", extra_lines=["#SBATCH --gres=gpu:1"])
    meta = {"mem": 500, "needs_gpu": True, "colour": "blue", "partition": "ignored"}

    assert slurm_options(default, gpu, meta) == SlurmOptions(
        partition="gpu", mem=500, constraint="slow", extra_lines=["#SBATCH --gres=gpu:1"]
    )
    assert slurm_options(default, gpu, {}) == default


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("memm", 1, r"default_slurm_config\.memm: .*valid keys: partition, nodes, cpus_per_task, mem"),
        ("qos", "high", r"add it to extra_lines, as '#SBATCH --qos=high'"),
        ("mem", 0, r"default_slurm_config\.mem: 0 is no amount of memory"),
        ("mem", "4X", "'4X' is no amount of memory"),
        ("time", "1:2:3:4", r"default_slurm_config\.time: '1:2:3:4' is no time limit"),
        ("cpus_per_task", 0, r"default_slurm_config\.cpus_per_task: .*greater than or equal to 1"),
        ("gpus", "two", "is no number of GPUs"),
        ("gres", "gpu 1", "names no generic resources"),
        ("nodes", "all", "is no number of nodes"),
        ("partition", "a\nb", "must be a text of one line"),
        ("extra_lines", ["#SBATCH --reservaton=x"], "did you mean '--reservation'.* --qos"),
        ("extra_lines", ["#SBATCH --mem=5G"], "give that as 'mem'"),
    ],
)
def test_a_bad_set_names_key_and_value(key: str, value: Any, problem: str) -> None:
    with pytest.raises(ResourceError, match=problem):
        slurm_config(default={key: value})


@pytest.mark.parametrize("key", ["cpus_per_job", "mem_per_job", "num_jobs"])
def test_a_target_above_its_maximum_is_refused(key: str) -> None:
    with pytest.raises(ResourceError, match=rf"target_{key} \(5\) is above max_{key} \(4\)"):
        slurm_config({f"target_{key}": 5, f"max_{key}": 4})


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 0),
        ({"gpus": 3}, 3),
        ({"gpus": "a100:2,v100:1"}, 3),
        ({"gres": "gpu"}, 1),
        ({"gres": "lscratch:10G,gpu:a100:2"}, 2),
        ({"gres": "shard:4"}, 0),
        ({"extra_lines": ["module load x", "#SBATCH -G 2"]}, 2),
        ({"extra_lines": ["#SBATCH --gpus-per-node=a100:2"]}, 2),
        ({"extra_lines": ["#SBATCH --tres-per-task=gres/gpu:2"]}, 2),
        ({"extra_lines": ["#SBATCH --gres=gpu:1"], "gpus": 2}, 2),
    ],
)
def test_the_gpus_of_a_job_are_counted(options: dict[str, Any], count: int) -> None:
    assert gpu_count(SlurmOptions(**options)) == count


@pytest.mark.parametrize("seconds", [0, 1, 60, 3599, 86399, 86400, 93784, 10_000_000])
def test_times_are_written_as_they_are_read(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds
