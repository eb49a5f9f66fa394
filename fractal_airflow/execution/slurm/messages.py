"""What is said between Airflow and the program on the cluster: pure requests and replies.

The program is ``execution/runner/cluster``: one JSON request on its stdin, one JSON reply on its stdout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from fractal_airflow.exceptions import (
    ClusterBusyError,
    ClusterUnreachableError,
    ControllerError,
    FractalAirflowError,
    ResourceError,
    SubmissionError,
    WorkFolderError,
)
from fractal_airflow.execution.slurm.transport import Completed, is_starved

T = TypeVar("T")

BUSY_PAUSE_S = 10.0
CONTROLLER_PAUSE_S = 2.0
MOST_STDERR = 2000


@dataclass(frozen=True)
class JobRef:
    """A job on the cluster.

    :param adopted: whether it was there already: an earlier try had submitted it.
    """

    id: str
    name: str
    adopted: bool = False


@dataclass(frozen=True)
class Submitted:
    """What submitting a batch came to.

    :param folder: the attempt's folder.
    :param job: None where every unit has a good result already.
    :param done: how many units have a good result already.
    :param offset: how long the results file is already.
    """

    folder: str
    count: int
    job: JobRef | None
    done: int = 0
    offset: int = 0


@dataclass(frozen=True)
class PollItem:
    """A job that is asked about.

    :param offset: how much of its results file is known already.
    """

    id: str
    folder: str
    offset: int = 0


@dataclass(frozen=True)
class JobStatus:
    """What a poll says of a job.

    :param state: in SLURM's word; None where SLURM does not know the job.
    :param source: ``squeue`` or ``sacct``; None where neither knows it.
    :param restarts: how often it was requeued.
    :param exit: what the job's script wrote at its own end.
    :param done: good results since the last poll.
    :param failed: other results since the last poll.
    :param offset: how much of the results file is known now.
    """

    state: str | None = None
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    source: str | None = None
    exit: int | None = None
    done: int = 0
    failed: int = 0
    offset: int = 0


@dataclass(frozen=True)
class JobRecord:
    """What SLURM says of a job that has ended."""

    id: str = ""
    state: str | None = None
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: str = ""
    seconds: float | None = None
    requested_mem_mb: float | None = None
    requested_cpus: int | None = None
    time_limit: float | None = None
    max_rss_mb: float | None = None
    restarts: int = 0


@dataclass(frozen=True)
class Collected:
    """What is known of a job's end.

    :param results: the last result line of each unit that has one.
    :param job: None where SLURM does not know the job any more.
    :param exit: what the job's script wrote at its own end.
    :param cancelled_by: who of us cancelled the job.
    :param usage: what the runner measured of the whole job.
    :param log_tails: the ends of the logs of units that were started and have no result, by their indexes.
    :param taken: whether the complete results were taken.
    :param too_large: whether there were more results than were asked for; then nothing else is known.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    job: JobRecord | None = None
    exit: int | None = None
    stderr_tail: str = ""
    cancelled_by: str | None = None
    usage: dict[str, Any] | None = None
    log_tails: dict[str, str] = field(default_factory=dict)
    taken: bool = False
    too_large: bool = False


def poll_request(items: Iterable[PollItem]) -> dict[str, Any]:
    """Return the question how jobs are."""
    return {
        "do": "poll",
        "jobs": [{"id": item.id, "folder": item.folder, "offset": item.offset} for item in items],
    }


def read_submitted(reply: Mapping[str, Any]) -> Submitted:
    """Return what submitting a batch came to."""
    job = None if reply.get("complete") else reply.get("job")
    ref = JobRef(str(job["id"]), job["name"], bool(job.get("adopted"))) if job else None
    known = {key: reply[key] for key in ("folder", "count", "done", "offset") if key in reply}
    return Submitted(**known, job=ref)


def read_statuses(reply: Mapping[str, Any]) -> dict[str, JobStatus]:
    """Return how jobs are, by their ids."""
    return {job_id: _read(JobStatus, status) for job_id, status in reply["jobs"].items()}


def read_collected(reply: Mapping[str, Any]) -> Collected:
    """Return what is known of a job's end; also from the JSON in which a trigger hands it on."""
    job = reply.get("job")
    return _read(Collected, {**reply, "job": _read(JobRecord, job) if job else None})


def _read(kind: type[T], data: Mapping[str, Any]) -> T:
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in data.items() if key in names and value is not None})


def read_reply(done: Completed, where: str) -> dict[str, Any]:
    """Return what the program replied.

    :param where: the machine it ran on, for messages.
    :raises FractalAirflowError: what it reported as an error; or that it did not reply at all.
    """
    reply = _last_json_line(done.stdout)
    if reply is None:
        raise _no_reply(done, where)
    if "error" in reply:
        raise error_of(reply["error"], where)
    ok: dict[str, Any] = reply["ok"]
    return ok


def _last_json_line(stdout: bytes) -> dict[str, Any] | None:
    lines = stdout.strip().splitlines()
    try:
        reply = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return reply if isinstance(reply, dict) and ("ok" in reply or "error" in reply) else None


def _no_reply(done: Completed, where: str) -> FractalAirflowError:
    said = done.stderr.decode("utf-8", "replace").strip()[-MOST_STDERR:]
    if done.code == 0 or done.code < 0 or done.code > 128:
        return ClusterUnreachableError(
            f"{where}: the reply was cut off (exit code {done.code}). {said}".rstrip(". ") + "."
        )
    if is_starved(done.stderr):
        return ClusterUnreachableError(f"{where} starts no programs right now: {said}")
    return ResourceError(f"{where}: the program of this package failed there (exit code {done.code}): {said}")


def error_of(error: Mapping[str, Any], where: str) -> FractalAirflowError:
    """Return the exception for an error that the program reported."""
    message = f"{where}: {error.get('message', 'an error without a message')}"
    kind = error.get("kind")
    pause_s = error.get("pause_s", 0.0)
    if kind == "controller":
        return ControllerError(message, pause_s=max(pause_s, CONTROLLER_PAUSE_S))
    if kind == "busy":
        return ClusterBusyError(message, pause_s=max(pause_s, BUSY_PAUSE_S))
    if kind == "refused":
        option = error.get("option")
        asked = f". The option that caused it: {option}" if option else ""
        return SubmissionError(f"{message.rstrip('.')}{asked}")
    if kind == "folder":
        return WorkFolderError(
            f"{message}. Make room or give this user the right to write there, or set another work_dir in "
            "the resource's connection."
        )
    return ResourceError(message)
