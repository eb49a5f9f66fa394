"""What an administrator is told about a cluster: what is well, what is not, and what to do about it.

Pure: from what the program on the cluster found out (``runner/cluster/check.py``) to findings.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fractal_airflow.execution.findings import Finding, megabytes_text
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.check_partitions import judge_partitions
from fractal_airflow.execution.slurm.options import SlurmOptions
from fractal_airflow.execution.slurm.states import waiting_words

SLOW_ROUND_TRIP_S = 1.0
SLOW_QUEUE_S = 5.0
LITTLE_SPACE_MB = 1000
POLLS_REMEMBERED = 6  # how many polls may fail before the controller forgets an end

# What SLURM gives as a reason does not pass by waiting.
_STUCK = (
    "will not start",
    "is held",
    "is down",
    "was down",
    "not available",
    "takes no jobs",
    "starts no jobs",
)

_NEEDED = ("sbatch", "squeue", "scancel")
_PATH_ADVICE = (
    "Commands run in a shell that is neither a login shell nor an interactive one. Put the folder of SLURM's "
    "commands into the PATH that it has: in ~/.bashrc above the line that leaves where the shell is not "
    "interactive, or in /etc/environment; or link the commands to /usr/local/bin. If there are none at all, "
    "this is no submit host of the cluster: let the connection lead to one"
)


def judge_round_trips(where: str, first_s: float, later_s: Sequence[float]) -> Finding:
    """Judge how fast a cluster answers at all.

    :param first_s: how long the first command took, with whatever connecting that needs.
    :param later_s: how long others took, on the same connection.
    """
    usual = statistics.median(later_s)
    message = f"{where} answers in {usual:.2f} s, the first time in {first_s:.2f} s"
    if usual <= SLOW_ROUND_TRIP_S:
        return Finding("connection", "ok", message)
    return Finding(
        "connection",
        "warning",
        f"{message}; every submission and every poll waits for that",
        "See what the user's shell does at its start (~/.bashrc: `module load`, `conda init`), and how far the "
        "machine is",
    )


def judge(facts: Mapping[str, Any], config: ResourceConfig) -> list[Finding]:
    """Judge what the program on the cluster found out."""
    return [
        Finding(
            "user",
            "ok",
            f"{facts['user']} on {facts['host']}, Python {facts['python']} ({facts['executable']})",
        ),
        *_commands(facts),
        *_accounting(facts, config),
        *judge_partitions(facts["partitions"], config),
        *_limits(facts["limits"], config),
        _work_folder(facts["work_dir"], facts["user"], config),
    ]


def _commands(facts: Mapping[str, Any]) -> Iterator[Finding]:
    commands = facts["commands"]
    missing = [name for name in _NEEDED if not commands[name]["path"]]
    if missing:
        names = ", ".join(missing)
        yield Finding(
            "SLURM", "error", f"{facts['host']} has no {names} that {facts['user']} finds", _PATH_ADVICE
        )
        return
    broken = [f"{name}: {commands[name]['error']}" for name in _NEEDED if commands[name]["error"]]
    if facts["queue"]["error"]:
        broken.append(facts["queue"]["error"])
    if broken:
        yield Finding(
            "SLURM",
            "error",
            "; ".join(broken),
            "SLURM's controller does not answer from this machine: try `squeue` and `scontrol ping` there. Are "
            "slurmctld and munge up, and is slurm.conf (SLURM_CONF) that of the cluster?",
        )
        return
    others = [name for name in ("sinfo", "scontrol") if commands[name]["error"]]
    seconds = facts["queue"]["seconds"]
    message = f"SLURM {facts['slurm'] or '(of unknown version)'}; squeue takes {seconds:.2f} s"
    if others:
        yield Finding(
            "SLURM",
            "warning",
            f"{message}; {' and '.join(others)} cannot be used, so partitions and limits were not checked",
            "; ".join(f"{name}: {commands[name]['error']}" for name in others),
        )
    elif seconds > SLOW_QUEUE_S:
        advice = "Each poll asks it once, whatever the number of jobs: set poll_interval well above that"
        yield Finding("SLURM", "warning", message, advice)
    else:
        yield Finding("SLURM", "ok", message)


def _accounting(facts: Mapping[str, Any], config: ResourceConfig) -> Iterator[Finding]:
    error = facts["commands"]["sacct"]["error"]
    if not error:
        yield Finding("accounting", "ok", "sacct knows jobs that the controller has forgotten")
        return
    age = _number(facts["limits"].get("MinJobAge"))
    said = _first_line(error).removeprefix("sacct says: ")
    message = f"no sacct ({said}): how a job ended is known as long as the controller remembers it"
    if age is None:
        yield Finding("accounting", "ok", message)
        return
    message += f", {age} s (MinJobAge)"
    if age >= POLLS_REMEMBERED * config.poll_interval:
        yield Finding("accounting", "ok", message)
        return
    yield Finding(
        "accounting",
        "warning",
        f"{message}; between two polls are {config.poll_interval:g} s",
        "Set MinJobAge in slurm.conf to 300, its default, or a shorter poll_interval in the connection; else only "
        "the job's own files tell how it ended",
    )


def _limits(limits: Mapping[str, str], config: ResourceConfig) -> Iterator[Finding]:
    if not limits:
        return
    jobs = config.jobs_runner_config
    default = jobs.default_slurm_config or SlurmOptions()
    consumed = "MEMORY" in limits.get("SelectTypeParameters", "").upper()
    unlimited = limits.get("DefMemPerNode", limits.get("DefMemPerCPU", "")) == "UNLIMITED"
    if default.mem is None and consumed and unlimited and not _asks_for_memory(default):
        yield Finding(
            "limits",
            "warning",
            "a job that does not say how much memory it needs gets all of its node's (DefMemPerNode)",
            'Set "mem" in default_slurm_config, for tasks that do not say it themselves',
        )
    most = _number(limits.get("MaxJobCount"))
    wanted = jobs.batching_config.max_num_jobs if jobs.batching_config else None
    if most and wanted and wanted > most:
        yield Finding(
            "limits",
            "warning",
            f"batching_config allows {wanted} jobs a step, the cluster {most} in all (MaxJobCount)",
            "Lower max_num_jobs",
        )
    known = ("MaxJobCount", "MinJobAge", "DefMemPerNode", "DefMemPerCPU", "MaxMemPerNode", "PreemptMode")
    shown = [f"{name} {limits[name]}" for name in known if name in limits]
    yield Finding("limits", "ok", ", ".join(shown))


def _asks_for_memory(options: SlurmOptions) -> bool:
    return any("--mem" in line for line in options.extra_lines or ())


def _work_folder(folder: Mapping[str, Any], user: str, config: ResourceConfig) -> Finding:
    path = str(config.work_dir)
    if not folder["writable"]:
        return Finding(
            "work folder",
            "error",
            f"{user} cannot write to {path}: {folder['error']}",
            f"As root: `install -d -o {user} {path}`; or set another work_dir in the resource's connection. "
            "Compute nodes need it, too, at the same path",
        )
    free = folder["free_mb"]
    if free is not None and free < LITTLE_SPACE_MB:
        return Finding(
            "work folder",
            "warning",
            f"{path} can be written, but has {free} MB left",
            "Make room: `airflow fractal clean` removes the folders of old runs",
        )
    space = "" if free is None else f", {megabytes_text(free)} free"
    return Finding("work folder", "ok", f"{path} can be written{space}")


def judge_pending(job_id: str, reason: str, waited_s: float) -> Finding:
    """Judge a job that was given time to start, and has not."""
    words = f"job {job_id} {waiting_words(reason)}; it was cancelled after {waited_s:.0f} s"
    if not any(stuck in words for stuck in _STUCK):
        return Finding(
            "job",
            "warning",
            words,
            "The cluster is busy: give the check more time (--wait), or come back later",
        )
    return Finding(
        "job",
        "error",
        words,
        "SLURM has a reason to hold it: mend what it names, or change what default_slurm_config asks for "
        "(partition, account, cpus_per_task, mem, time, constraint)",
    )


def _number(text: str | None) -> int | None:
    digits = (text or "").split()[:1]
    return int(digits[0]) if digits and digits[0].isdecimal() else None


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
