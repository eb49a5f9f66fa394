"""How the units of a step are put together into jobs: how many a job has, and how many of them at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.batching import plan_batches
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.options import BatchingConfig, SlurmOptions, gpu_count, slurm_options
from fractal_airflow.fractal.meta import UNLIMITED, parse_time

DEFAULT_NUM_JOBS = 100


@dataclass(frozen=True)
class Unit:
    """
    What one unit needs, and what its task says about jobs.

    :param options: what it asks for.
    :param cpus: its cores.
    :param mem_mb: its memory; None where it is left to the cluster.
    :param gpus: how many GPUs its job has, one for each unit that runs; 0 where it needs none.
    :param per_job: how many units a job has, and how many of them run at a time, where the task says so.
    """

    options: SlurmOptions
    cpus: int
    mem_mb: int | None
    gpus: int
    per_job: tuple[int, int] | None


@dataclass(frozen=True)
class JobLimits:
    """How much a job may have, and how many jobs a step; None is no limit."""

    cpus: int | None
    mem_mb: int | None
    jobs: int | None

    def most_jobs(self, max_batches: int) -> int:
        """Return how many jobs there may be.

        :param max_batches: how many Airflow takes.
        """
        return max(1, max_batches if self.jobs is None else min(self.jobs, max_batches))

    def at_a_time(self, unit: Unit, mem_mb: int | None) -> int | None:
        """Return how many units fit a job at a time, at least one; None where nothing limits them.

        :param mem_mb: the memory of each.
        """
        fits = []
        if self.cpus is not None:
            fits.append(self.cpus // unit.cpus)
        if self.mem_mb is not None and mem_mb is not None:
            fits.append(self.mem_mb // mem_mb)
        if unit.gpus:
            fits.append(unit.gpus)
        return max(1, min(fits)) if fits else None


def read_unit(config: ResourceConfig, meta: Mapping[str, Any]) -> Unit:
    """
    Return what a unit needs.

    :raises ResourceError: if it fits no job of the resource, or its ``meta`` cannot be used.
    """
    sets = config.jobs_runner_config
    options = slurm_options(sets.default_slurm_config, sets.gpu_slurm_config, meta)
    gpus = gpu_count(options) or (1 if meta.get("needs_gpu") else 0)
    unit = Unit(options, options.cpus_per_task or 1, options.mem, gpus, _per_job(meta))
    _check_fits(unit, batching_config(config), meta)
    return unit


def batching_config(config: ResourceConfig) -> BatchingConfig:
    """Return how a resource puts units together into jobs."""
    return config.jobs_runner_config.batching_config or BatchingConfig()


def hard_limits(batching: BatchingConfig) -> JobLimits:
    """Return what is an error to pass: where a task says how units are put together, nothing else holds."""
    return JobLimits(batching.max_cpus_per_job, batching.max_mem_per_job, batching.max_num_jobs)


def targets(batching: BatchingConfig) -> JobLimits:
    """Return what jobs, and their number, should be."""
    return JobLimits(
        batching.target_cpus_per_job or batching.max_cpus_per_job,
        batching.target_mem_per_job or batching.max_mem_per_job,
        batching.target_num_jobs or batching.max_num_jobs or DEFAULT_NUM_JOBS,
    )


def maxima(batching: BatchingConfig) -> JobLimits:
    """Return what jobs, and their number, may be at most."""
    return JobLimits(
        batching.max_cpus_per_job or batching.target_cpus_per_job,
        batching.max_mem_per_job or batching.target_mem_per_job,
        batching.max_num_jobs or batching.target_num_jobs or DEFAULT_NUM_JOBS,
    )


def plan_slurm_batches(
    config: ResourceConfig,
    meta: Mapping[str, Any],
    n_units: int,
    images_per_batch: int | None = None,
    max_batches: int = 1024,
) -> list[int]:
    """
    Return how many units each job of a step has, in order, as even as possible.

    :param images_per_batch: at most this many units in a job, in place of what the task and the resource say.
    :param max_batches: never more jobs than this.
    :raises ResourceError: if a unit fits no job, or the task wants more than is possible.
    """
    unit = read_unit(config, meta)
    if n_units <= 0:
        return []
    batching = batching_config(config)
    most = hard_limits(batching).most_jobs(max_batches)
    if images_per_batch is not None:
        return plan_batches(n_units, slots=1, images_per_batch=images_per_batch, max_batches=most)
    if unit.per_job is not None:
        return _even(n_units, _count_of_task(unit.per_job[0], n_units, most, batching))
    for limits in (targets(batching), maxima(batching)):
        count = math.ceil(n_units / (limits.at_a_time(unit, unit.mem_mb) or 1))
        if count <= limits.most_jobs(max_batches):
            return _even(n_units, count)
    return _even(n_units, maxima(batching).most_jobs(max_batches))


def units_at_a_time(
    config: ResourceConfig, meta: Mapping[str, Any], n_units: int, *, memory_factor: float = 1
) -> int:
    """
    Return how many units of a job of so many run at a time.

    :param memory_factor: how many times the usual memory each of them gets.
    :raises ResourceError: if a unit fits no job.
    """
    return at_a_time(read_unit(config, meta), batching_config(config), n_units, memory_factor=memory_factor)


def at_a_time(unit: Unit, batching: BatchingConfig, n_units: int, *, memory_factor: float = 1) -> int:
    """Return how many units of a job of so many run at a time (see :func:`units_at_a_time`)."""
    mem_mb = unit_memory(unit, batching, memory_factor)
    if unit.per_job is None:
        fits = maxima(batching).at_a_time(unit, mem_mb) or 1
    else:
        asked = unit.per_job[1]
        fits = min(asked, hard_limits(batching).at_a_time(unit, mem_mb) or asked)
    return max(1, min(n_units, fits))


def unit_memory(unit: Unit, batching: BatchingConfig, factor: float = 1) -> int | None:
    """Return the memory of a unit in MB, some times the usual, but no more than a job may have."""
    if unit.mem_mb is None:
        return None
    wanted = math.ceil(unit.mem_mb * factor)
    most = batching.max_mem_per_job
    return wanted if most is None else min(wanted, most)


def _per_job(meta: Mapping[str, Any]) -> tuple[int, int] | None:
    units, at_once = meta.get("tasks_per_job"), meta.get("parallel_tasks_per_job")
    if units is None and at_once is None:
        return None
    if units is None or at_once is None:
        given, missing = ("tasks_per_job", "parallel_tasks_per_job")[:: 1 if at_once is None else -1]
        raise ResourceError(f"meta.{given} is given without {missing}: give both, or neither")
    return units, min(units, at_once)


def _check_fits(unit: Unit, batching: BatchingConfig, meta: Mapping[str, Any]) -> None:
    limits = hard_limits(batching)
    at_once = unit.per_job[1] if unit.per_job else 1
    if unit.gpus:
        at_once = min(at_once, unit.gpus)
    _check_fit("cpus_per_task", unit.cpus, at_once, limits.cpus, "max_cpus_per_job", meta)
    _check_fit("mem", unit.mem_mb, at_once, limits.mem_mb, "max_mem_per_job", meta)
    limit = batching.max_time_per_job
    time_s, limit_s = unit.options.time_s, parse_time(limit) if limit else UNLIMITED
    if limit_s != UNLIMITED and time_s is not None and (time_s == UNLIMITED or time_s > limit_s):
        raise ResourceError(
            f"{_source('time', meta)}: a unit asks for {unit.options.time}, and no job of this resource may "
            f"have more than {limit} (batching_config.max_time_per_job)"
        )


def _check_fit(
    key: str, value: int | None, at_once: int, limit: int | None, limit_key: str, meta: Mapping[str, Any]
) -> None:
    if value is None or limit is None or value * at_once <= limit:
        return
    what = "MB" if key == "mem" else "cores"
    may = f"no job of this resource may have more than {limit} (batching_config.{limit_key})"
    if value > limit:
        raise ResourceError(f"{_source(key, meta)}: a unit asks for {value} {what}, and {may}")
    raise ResourceError(
        f"meta.parallel_tasks_per_job: {at_once} units at a time, of {value} {what} each ({key}), need "
        f"{value * at_once}, and {may}"
    )


def _source(key: str, meta: Mapping[str, Any]) -> str:
    return f"meta.{key}" if meta.get(key) is not None else f"default_slurm_config.{key}"


def _count_of_task(tasks_per_job: int, n_units: int, most: int, batching: BatchingConfig) -> int:
    count = math.ceil(n_units / tasks_per_job)
    if count > most:
        limit = (
            "batching_config.max_num_jobs" if batching.max_num_jobs == most else "Airflow's max_map_length"
        )
        raise ResourceError(
            f"meta.tasks_per_job: {tasks_per_job} units per job make {count} jobs of {n_units} units, and "
            f"there may be no more than {most} ({limit}): give at least {math.ceil(n_units / most)}"
        )
    return count


def _even(n_units: int, count: int) -> list[int]:
    small, rest = divmod(n_units, count)
    return [small + 1] * rest + [small] * (count - rest)
