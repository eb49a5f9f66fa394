"""Whether a cluster's partitions have what a resource's configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fractal_airflow.execution.findings import Finding, megabytes_text
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.options import SlurmOptions, asks_for_gpus


def judge_partitions(partitions: Sequence[Mapping[str, Any]], config: ResourceConfig) -> Iterator[Finding]:
    """Judge what units ask for by default against the partitions that there are."""
    if not partitions:
        return
    problems: list[Finding] = []
    for name, options in _option_sets(config):
        problems += _partition_problems(name, options, partitions)
    yield from problems or [Finding("partitions", "ok", "; ".join(_describe(partitions)))]
    if problems:
        yield Finding("partitions", "ok", f"there are: {'; '.join(_describe(partitions))}")


def _option_sets(config: ResourceConfig) -> Iterator[tuple[str, SlurmOptions]]:
    """Yield what units ask for by default, and with a GPU, with the key that says so."""
    jobs = config.jobs_runner_config
    default = jobs.default_slurm_config or SlurmOptions()
    yield "default_slurm_config", default
    if jobs.gpu_slurm_config:
        yield "gpu_slurm_config", default.overlaid(jobs.gpu_slurm_config)


def _partition_problems(
    key: str, options: SlurmOptions, partitions: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    names = list(dict.fromkeys(item["name"] for item in partitions))
    wanted = (options.partition or "").split(",") if options.partition else _default_names(partitions)
    if not wanted:
        yield Finding(
            "partitions",
            "error",
            f"the cluster has no default partition, and {key} names none",
            f"Set its partition to one of {', '.join(names)}",
        )
        return
    unknown = [name for name in wanted if name not in names]
    if unknown:
        yield Finding(
            "partitions",
            "error",
            f"{key}: the cluster shows no partition {', '.join(map(repr, unknown))}",
            f"Choose among {', '.join(names)}; if it is there, may this user see it (AllowGroups)?",
        )
        return
    places = [item for item in partitions if item["name"] in wanted]
    down = sorted({item["name"] for item in places if not item["available"]})
    if len(down) == len(set(wanted)):
        yield Finding(
            "partitions",
            "error",
            f"{key}: partition {', '.join(down)} is down: its jobs wait",
            "Ask the cluster's administrators, or choose another partition",
        )
    yield from _size_problems(key, options, places)
    if key == "gpu_slurm_config" and not any("gpu" in item["gres"] for item in places):
        yield Finding(
            "partitions",
            "warning",
            f"{key}: no node of {', '.join(wanted)} shows a GPU among its generic resources",
            "Choose a partition that has GPUs",
        )
    elif key == "gpu_slurm_config" and not asks_for_gpus(options):
        yield Finding(
            "partitions",
            "warning",
            f"{key} asks for no GPU",
            'Add "gres": "gpu:1" to it, unless the partition gives every job one',
        )


def _size_problems(key: str, options: SlurmOptions, places: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield what one unit asks for that no node of its partitions has."""
    where = ", ".join(dict.fromkeys(item["name"] for item in places))
    cpus, mem_mb = _most(places, "cpus"), _most(places, "mem_mb")
    times = [item["time_limit"] for item in places]
    if cpus and (options.cpus_per_task or 1) > cpus:
        yield Finding(
            "partitions",
            "error",
            f"{key}: a unit asks for {options.cpus_per_task} cores, and the nodes of {where} have {cpus:g}",
            "Ask for fewer (cpus_per_task), or choose another partition",
        )
    if mem_mb and (options.mem or 0) > mem_mb:
        yield Finding(
            "partitions",
            "error",
            f"{key}: a unit asks for {options.mem} MB, and the nodes of {where} have {mem_mb:g} MB",
            "Ask for less (mem), or choose another partition",
        )
    if options.time_s and all(times) and options.time_s > max(times):
        yield Finding(
            "partitions",
            "error",
            f"{key}: a unit asks for {options.time_s} s, and jobs in {where} may take {max(times)} s",
            "Ask for less (time), or choose another partition",
        )


def _describe(partitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a text for each partition; `sinfo` has a line for each kind of node in it."""
    names = dict.fromkeys(item["name"] for item in partitions)
    return [_describe_one([item for item in partitions if item["name"] == name]) for name in names]


def _describe_one(kinds: Sequence[Mapping[str, Any]]) -> str:
    first = kinds[0]
    nodes = sum(item["nodes"] or 0 for item in kinds)
    parts = [f"{nodes} node{'' if nodes == 1 else 's'}"]
    cpus, mem_mb = _most(kinds, "cpus"), _most(kinds, "mem_mb")
    if cpus and mem_mb:
        parts.append(f"of up to {cpus:g} cores and {megabytes_text(mem_mb)}")
    gres = sorted({item["gres"] for item in kinds if item["gres"]})
    if gres:
        parts.append(f"with {', '.join(gres)}")
    notes = [parts[0] + "".join(f" {part}" for part in parts[1:])]
    if first["time_limit"]:
        notes.append(f"at most {_duration(first['time_limit'])}")
    if not first["available"]:
        notes.append("down")
    return f"{first['name']}{' (default)' if first['default'] else ''}: {', '.join(notes)}"


def _default_names(partitions: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(item["name"] for item in partitions if item["default"]))


def _most(items: Sequence[Mapping[str, Any]], key: str) -> float:
    return max((item[key] for item in items if item[key]), default=0)


def _duration(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:g} {unit}" if seconds % size == 0 else f"{seconds / size:.1f} {unit}"
    return f"{seconds} s"
