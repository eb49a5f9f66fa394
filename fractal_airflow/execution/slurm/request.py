"""What is asked of SLURM for one batch: its job's script, and what that asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.batching import at_a_time, batching_config, read_unit, unit_memory
from fractal_airflow.execution.slurm.options import BatchingConfig
from fractal_airflow.execution.slurm.script import render_script
from fractal_airflow.fractal.meta import UNLIMITED, parse_time

MAX_NAME_LENGTH = 40

_ACCOUNT = re.compile(r"[^\s,'\"-][^\s,'\"]*")


@dataclass(frozen=True)
class JobRequest:
    """
    A job, ready to be submitted from the folder of its batch.

    :param script: the batch script.
    :param name: a readable beginning for the job's name.
    :param parallel: how many units run at a time.
    :param gpus: how many GPUs they share out among them, one each; 0 where they need none.
    :param cpus: the cores of the job.
    :param mem_mb: the memory of the job; None where it is left to the cluster.
    :param unit_mem_mb: the memory of a unit; None where it is left to the cluster.
    :param time_limit_s: None where it is left to the cluster, or where there is none.
    """

    script: str
    name: str
    parallel: int
    gpus: int
    cpus: int
    mem_mb: int | None
    unit_mem_mb: int | None
    time_limit_s: int | None
    partition: str | None = None
    account: str | None = None


def job_request(
    config: ResourceConfig,
    meta: Mapping[str, Any],
    n_units: int,
    *,
    label: str,
    account: str | None = None,
    worker_init: Sequence[str] | str | None = None,
    memory_factor: float = 1,
    time_factor: float = 1,
    python: str,
    program: str,
) -> JobRequest:
    """
    Return the job of a batch.

    :param meta: the task's ``meta``.
    :param n_units: how many units the batch still has to run.
    :param label: what the batch is called, for people.
    :param account: the run's account, in place of the resource's.
    :param worker_init: the run's shell lines, before the program.
    :param memory_factor: how many times the usual memory each unit gets, up to ``max_mem_per_job``.
    :param time_factor: how many times the usual time, up to ``max_time_per_job``.
    :param python: the Python that runs the program.
    :param program: the runner.
    :raises ResourceError: if a unit fits no job, or ``meta`` or the run's choices cannot be used.
    """
    unit, batching = read_unit(config, meta), batching_config(config)
    parallel = at_a_time(unit, batching, n_units, memory_factor=memory_factor)
    unit_mem_mb = unit_memory(unit, batching, memory_factor)
    cpus, mem_mb = unit.cpus * parallel, None if unit_mem_mb is None else unit_mem_mb * parallel
    rounds = math.ceil(n_units / parallel)
    time_s = _job_time(unit.options.time_s, max(1, rounds) * time_factor, batching)
    options = unit.options
    account = _checked_account(account) or options.account
    per_cpu = None
    if config.use_mem_per_cpu and mem_mb is not None:
        per_cpu = math.ceil(mem_mb / cpus)
    script = render_script(
        python=python,
        program=program,
        label=label,
        partition=options.partition,
        account=account,
        nodes=options.nodes,
        cpus_per_task=cpus,
        mem_mb=mem_mb if per_cpu is None else None,
        mem_per_cpu_mb=per_cpu,
        time_s=time_s,
        constraint=options.constraint,
        gres=options.gres,
        gpus=options.gpus,
        nodelist=options.nodelist,
        exclude=options.exclude,
        extra_lines=options.extra_lines or (),
        exports=_exports(config),
        worker_init=_checked_lines(worker_init),
    )
    return JobRequest(
        script=script,
        name=job_name(label),
        parallel=parallel,
        gpus=unit.gpus,
        cpus=cpus,
        mem_mb=mem_mb,
        unit_mem_mb=unit_mem_mb,
        time_limit_s=time_s or None,
        partition=options.partition,
        account=account,
    )


def job_name(label: str) -> str:
    """
    Return a readable beginning for a job's name: ``squeue`` takes lists of names, with commas between them.

    >>> job_name("B/03/0 … B/12/0 (10)")
    'B-03-0-B-12-0-10'
    """
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", label).strip("-.")
    return name[:MAX_NAME_LENGTH].rstrip("-.") or "fractal"


def _job_time(unit_s: int | None, factor: float, batching: BatchingConfig) -> int | None:
    """Return the time limit of a job that runs its units in turn."""
    if unit_s is None:
        return None
    # SLURM counts in minutes.
    wanted = unit_s if unit_s == UNLIMITED else 60 * math.ceil(unit_s * factor / 60)
    most = UNLIMITED if batching.max_time_per_job is None else parse_time(batching.max_time_per_job)
    return wanted if most == UNLIMITED else min(wanted, most)


def _checked_account(account: str | None) -> str | None:
    if account and not _ACCOUNT.fullmatch(account):
        raise ResourceError(f"slurm_account: {account!r} is no name of an account")
    return account


def _checked_lines(worker_init: Sequence[str] | str | None) -> list[str]:
    texts = [worker_init] if isinstance(worker_init, str) else list(worker_init or ())
    lines = [line.rstrip("\r") for text in texts for line in text.split("\n")]
    for line in lines:
        if "\0" in line or "\r" in line:
            raise ResourceError(f"worker_init: {line!r} is no line of a shell script")
    return lines


def _exports(config: ResourceConfig) -> dict[str, str]:
    """Return the resource's environment variables, whose values are paths in its cache folder."""
    paths = config.jobs_runner_config.user_local_exports or {}
    return {name: str(PurePosixPath(config.exports_dir) / path) for name, path in paths.items()}
