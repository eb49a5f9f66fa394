"""How jobs are, and how far: one ``squeue`` for all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..attempts import RESULTS_FILE
from .accounting import read_accounting
from .cancel import scancel
from .errors import ProgramError
from .queue import Job, by_id, read_queue
from .records import read_record


def poll(request: dict[str, Any]) -> dict[str, Any]:
    """Return the state of jobs, and the progress of their units since the last poll."""
    wanted: list[dict[str, Any]] = request["jobs"]
    queue = read_queue()
    known = by_id(queue)
    accounting = read_accounting(item["id"] for item in wanted if item["id"] not in known)
    cancel_twins(wanted, queue)
    replies = {}
    for item in wanted:
        job_id = item["id"]
        reply: dict[str, Any] = {"state": None, "reason": "", "nodes": "", "restarts": None, "source": None}
        job = known.get(job_id)
        record = accounting.get(job_id)
        if job:
            reply = {"state": job.state, "reason": job.reason, "nodes": job.nodes, "restarts": job.restarts}
            reply["source"] = "squeue"
        elif record and record.ended:  # else the accounting is behind: the controller has forgotten the job
            reply |= {
                "state": record.state,
                "reason": record.reason,
                "nodes": record.nodes,
                "source": "sacct",
            }
        reply["exit"] = None if job and job.live else read_exit(item["folder"], job_id)
        replies[job_id] = {**reply, **progress(item["folder"], item.get("offset", 0))}
    return {"jobs": replies}


def cancel_twins(wanted: Sequence[dict[str, Any]], queue: Sequence[Job]) -> None:
    """Cancel the second job of an attempt: SLURM took it long after its submission seemed to have failed."""
    live: dict[str, list[Job]] = {}
    for job in queue:
        if job.live:
            live.setdefault(job.name, []).append(job)
    folders = {item["id"]: item["folder"] for item in wanted}
    for twins in live.values():
        watched = [job for job in twins if job.id in folders]
        if len(twins) > 1 and watched:
            own = read_record(folders[watched[0].id]).get("id")
            if own in {job.id for job in twins}:
                with suppress(ProgramError):  # the next poll finds it again
                    scancel([job.id for job in twins if job.id != own])


def read_exit(folder: str, job_id: str) -> int | None:
    """Return the exit code that a job's script noted at its end; None if it has not."""
    try:
        with open(os.path.join(folder, f"job-{job_id}.exit"), encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def progress(folder: str, offset: int) -> dict[str, int]:
    """Return how many results came after a place in the results file, and the place for the next time."""
    path = os.path.join(folder, RESULTS_FILE)
    counts = {"done": 0, "failed": 0, "offset": offset}
    try:
        if os.stat(path).st_size <= offset:
            return counts
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return counts
    end = data.rfind(b"\n") + 1
    for line in data[:end].splitlines():
        status = status_of(line)
        if status:
            counts["done" if status == "done" else "failed"] += 1
    return {**counts, "offset": offset + end}


def status_of(line: bytes) -> str | None:
    """Return the status that a line of results has; None if it is torn."""
    try:
        result = json.loads(line)
    except ValueError:
        return None
    return str(result["status"]) if isinstance(result, dict) and "status" in result else None
