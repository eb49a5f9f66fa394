"""SLURM's accounting: ``sacct``, where a cluster has it, for jobs that the queue has forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from . import commands
from .queue import ENDED_STATES, first_word, parse_limit, parse_memory_mb, parse_seconds

DEADLINE_SECONDS = 20.0  # it is asked for more, not for what must be known

_FIELDS = (
    "JobID", "State", "ExitCode", "NodeList", "ElapsedRaw", "Timelimit", "ReqMem", "ReqCPUS", "MaxRSS", "Reason",
)  # fmt: skip


class Record(NamedTuple):
    """A job as the accounting shows it."""

    id: str
    state: str
    reason: str
    exit_code: int
    signal: int
    nodes: str
    seconds: int | None
    time_limit: str
    memory_mb: float | None
    cpus: int | None
    max_rss_mb: float | None

    @property
    def ended(self) -> bool:
        """Whether it has ended; else the accounting lags behind the queue."""
        return self.state in ENDED_STATES


def read_accounting(ids: Iterable[str]) -> dict[str, Record]:
    """Return what the accounting knows of jobs, by their ids; nothing where there is none."""
    ids = list(ids)
    if not ids or commands.find("sacct") is None:
        return {}
    ran = commands.run(
        "sacct", "--noheader", "--parsable2", f"--jobs={','.join(ids)}", f"--format={','.join(_FIELDS)}",
        deadline_s=DEADLINE_SECONDS,
    )  # fmt: skip
    return parse_accounting(ran.out) if ran.code == 0 else {}


def parse_accounting(text: str) -> dict[str, Record]:
    """Return the jobs that ``sacct`` printed: a line for each, and one for each of its steps."""
    found: dict[str, Record] = {}
    for line in text.splitlines():
        values = line.split("|", len(_FIELDS) - 1)
        if len(values) != len(_FIELDS):
            continue
        fields = dict(zip(_FIELDS, values))  # noqa: B905  # strict= came with Python 3.10
        job, _, step = fields["JobID"].partition(".")
        if not step:
            found[job] = _record(fields)
        elif job in found:
            used = [found[job].max_rss_mb, parse_memory_mb(fields["MaxRSS"])]
            most = max((mb for mb in used if mb is not None), default=None)
            found[job] = found[job]._replace(max_rss_mb=most)
    return found


def _record(fields: dict[str, str]) -> Record:
    code, _, number = fields["ExitCode"].partition(":")
    seconds = fields["ElapsedRaw"]
    return Record(
        id=fields["JobID"],
        state=first_word(fields["State"]),
        reason="" if fields["Reason"] == "None" else fields["Reason"],
        exit_code=int(code) if code.isdecimal() else 0,
        signal=int(number) if number.isdecimal() else 0,
        nodes="" if fields["NodeList"] == "None assigned" else fields["NodeList"],
        seconds=int(seconds) if seconds.isdecimal() else parse_seconds(seconds),
        time_limit=fields["Timelimit"],
        memory_mb=parse_memory_mb(fields["ReqMem"]) or None,
        cpus=int(fields["ReqCPUS"]) if fields["ReqCPUS"].isdecimal() else None,
        max_rss_mb=parse_memory_mb(fields["MaxRSS"]),
    )


def describe(record: Record) -> dict[str, Any]:
    """Return what a reply says about a job that has ended."""
    return {
        "id": record.id,
        "state": record.state,
        "reason": record.reason,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "nodes": record.nodes,
        "restarts": None,
        "seconds": record.seconds,
        "requested_mem_mb": record.memory_mb,
        "requested_cpus": record.cpus,
        "time_limit": parse_limit(record.time_limit),
        "max_rss_mb": record.max_rss_mb,
    }
