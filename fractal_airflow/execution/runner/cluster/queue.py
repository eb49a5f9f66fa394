"""SLURM's queue: one ``squeue`` for all jobs of the user, also those that ended a short while ago."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .commands import ask

# Any other state, also one that nobody here knows, is taken for a job that is still there.
ENDED_STATES = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip

_FIELDS = (
    "jobid", "state", "reason", "exit_code", "nodelist", "restartcnt", "timeused", "timelimit", "tres-alloc",
    "name",
)  # fmt: skip
_UNLIMITED_SECONDS = 365 * 86400  # what SLURM notes for a job that has started without a limit
_FORMAT = ",".join(f"{field}:|" for field in _FIELDS[:-1]) + ",name:"


class Job(NamedTuple):
    """A job as the queue shows it.

    :param exit_code: as ``wait`` gives it: the exit code times 256, or a signal.
    :param memory_mb: of the whole job, whatever it was requested by: node or CPU.
    """

    id: str
    state: str
    reason: str
    exit_code: int
    nodes: str
    restarts: int
    seconds: int | None
    time_limit: str
    memory_mb: float | None
    cpus: int | None
    name: str

    @property
    def live(self) -> bool:
        """Whether it has not ended: it waits, runs, or is being ended."""
        return self.state not in ENDED_STATES


def read_queue() -> list[Job]:
    """Return all jobs of this user that the controller knows.

    Asking for single jobs would fail as a whole where one of them is unknown.

    :raises ProgramError: if the controller does not answer.
    """
    user = str(os.getuid())
    return parse_queue(ask("squeue", "--noheader", "--states=all", f"--user={user}", "-O", _FORMAT))


def parse_queue(text: str) -> list[Job]:
    """Return the jobs that ``squeue`` printed.

    A line that is none of a job (a name may have line breaks in it) is left out.
    """
    jobs = []
    for line in text.splitlines():
        fields = line.split("|", len(_FIELDS) - 1)  # the name comes last: it may have a | in it
        if len(fields) == len(_FIELDS) and fields[0].isdecimal():
            values = dict(zip(_FIELDS, fields))  # noqa: B905  # strict= came with Python 3.10
            jobs.append(_job(values))
    return jobs


def _job(fields: dict[str, str]) -> Job:
    reason = fields["reason"]
    tres = dict(part.partition("=")[::2] for part in fields["tres-alloc"].split(","))
    return Job(
        id=fields["jobid"],
        state=first_word(fields["state"]),
        reason="" if reason == "None" else reason,
        exit_code=_number(fields["exit_code"]) or 0,
        nodes=fields["nodelist"],
        restarts=_number(fields["restartcnt"]) or 0,
        seconds=parse_seconds(fields["timeused"]),
        time_limit=fields["timelimit"],
        memory_mb=parse_memory_mb(tres.get("mem", "")),
        cpus=_number(tres.get("cpu", "")),
        name=fields["name"],
    )


def first_word(state: str) -> str:
    """Return a state alone: ``CANCELLED by 1000`` is CANCELLED."""
    return state.split(maxsplit=1)[0].rstrip("+") if state.strip() else ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def parse_seconds(text: str) -> int | None:
    """Return a time that SLURM shows, in seconds; None if it is none, as UNLIMITED.

    >>> parse_seconds("1-02:03:04")
    93784
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_limit(text: str) -> int | None:
    """Return a time limit in seconds; None if there is none."""
    seconds = parse_seconds(text)
    return None if seconds is None or seconds >= _UNLIMITED_SECONDS else seconds


def parse_memory_mb(text: str) -> float | None:
    """Return an amount of memory that SLURM shows, in MB; None if it is none.

    >>> parse_memory_mb("1.50G")
    1536.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?", text)
    if not match:
        return None
    number, unit = match.groups()
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}[unit]
    return round(float(number) * factor, 1)


def by_id(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return jobs by their ids."""
    return {job.id: job for job in jobs}


def describe(job: Job) -> dict[str, Any]:
    """Return what a reply says about a job that has ended."""
    return {
        "id": job.id,
        "state": job.state,
        "reason": job.reason,
        "exit_code": job.exit_code >> 8,
        "signal": job.exit_code & 0x7F,
        "nodes": job.nodes,
        "restarts": job.restarts,
        "seconds": job.seconds,
        "requested_mem_mb": job.memory_mb,
        "requested_cpus": job.cpus,
        "time_limit": parse_limit(job.time_limit),
    }
