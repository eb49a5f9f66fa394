"""What came of a job: the results of its units, and how it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from .. import attempts
from ..text import plain_text
from ..usage import USAGE_FILE
from . import accounting, queue
from .errors import ProgramError, writing
from .poll import read_exit
from .records import cancelled_by, read_record, started_from, write_record

TAIL_BYTES = 4000
TAIL_LINES = 30
MOST_LOG_TAILS = 5


def collect(request: dict[str, Any]) -> dict[str, Any]:
    """Return the results, and everything that explains the end of a job, if there was one.

    Of results that would be more than ``most_bytes`` the reply only says so: the end of the job counts as
    not told yet.
    """
    folder: str = request["folder"]
    job_id: str | None = request["job_id"]
    found = last_results(folder, request["count"], started_from(folder, job_id).get("offset", 0))
    if "most_bytes" in request and len(json.dumps(found)) > request["most_bytes"]:
        return {"too_large": True}
    complete = all(result["status"] == "done" for result in found) and len(found) == request["count"]
    job = describe_job(job_id, needed=not complete) if job_id else None
    taken = bool(request.get("take")) and complete
    if taken:
        with writing(folder):
            attempts.take(folder)
    if job is None or job["state"] in queue.ENDED_STATES:
        mark_collected(folder, job_id)
    return {
        "results": found,
        "job": job,
        "exit": read_exit(folder, job_id) if job_id else None,
        "stderr_tail": tail(os.path.join(folder, f"slurm-{job_id}.err")) if job_id else "",
        "cancelled_by": cancelled_by(folder, job_id) if job_id else None,
        "usage": read_usage(folder, job_id),
        "log_tails": log_tails(folder, request["count"], {result["index"] for result in found}),
        "taken": taken,
    }


def results(request: dict[str, Any]) -> dict[str, Any]:
    """Return the last result of each unit that has one."""
    return {"results": last_results(request["folder"], request["count"])}


def last_results(folder: str, count: int, since: int = 0) -> list[dict[str, Any]]:
    """Return the last result of each unit that has one, in their order.

    :param since: the place in the results file from which on failures count: earlier ones were to be tried
        again.
    """
    with suppress(OSError):
        os.listdir(folder)  # has a shared file system look for files that have just been made
    found = attempts.results_of(folder)
    if since:
        news = attempts.results_of(folder, since)
        found = {index: line for index, line in found.items() if index in news or line["status"] == "done"}
    return [found[index] for index in range(count) if index in found]


def log_tails(folder: str, count: int, ended: Collection[int]) -> dict[str, str]:
    """Return the ends of the logs of units that were started and have no result; of a few, if they are many."""
    tails: dict[str, str] = {}
    for index in range(count):
        if len(tails) == MOST_LOG_TAILS:
            break
        if index not in ended:
            text = tail(os.path.join(folder, f"{index}-log.txt"))
            if text:
                tails[str(index)] = text
    return tails


def describe_job(job_id: str, *, needed: bool) -> dict[str, Any] | None:
    """Return how a job ended; None where SLURM does not know it any more.

    :param needed: whether to fail if the controller does not answer.
    :raises ProgramError: if it does not.
    """
    try:
        job = queue.by_id(queue.read_queue()).get(job_id)
    except ProgramError:
        if needed:
            raise
        job = None
    record = accounting.read_accounting([job_id]).get(job_id)
    if job is None:
        return accounting.describe(record) if record and record.ended else None
    return {**queue.describe(job), "max_rss_mb": record.max_rss_mb if record else None}


def mark_collected(folder: str, job_id: str | None) -> None:
    """Note that the end of a job has been told."""
    record = read_record(folder)
    if job_id and record.get("id") == job_id and not record.get("collected"):
        with suppress(OSError):  # at worst it is told once more
            write_record(folder, {**record, "collected": True})


def read_usage(folder: str, job_id: str | None) -> dict[str, Any] | None:
    """Return what the runner noted of the use of the whole job; None if it did not come to that."""
    try:
        usage = attempts.read_json(os.path.join(folder, USAGE_FILE))
    except (OSError, ValueError):
        return None
    return usage if usage.pop("job_id", None) == job_id else None


def tail(path: str) -> str:
    """Return the last lines of a file; nothing if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = plain_text(file.read(TAIL_BYTES)).rstrip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])
