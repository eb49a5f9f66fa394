"""Submitting the job of a batch: never twice, and never lost."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from .. import attempts
from .cancel import scancel
from .errors import ProgramError, in_doubt, writing
from .lock import batch_lock
from .names import is_of, is_of_attempt, job_name
from .poll import progress
from .queue import Job, read_queue
from .records import (
    cancelled_by,
    doubt_left,
    new_record,
    note_cancelled,
    read_record,
    started_from,
    write_record,
)
from .sbatch import SCRIPT_FILE, submit_job

FORMER_SECONDS = 45.0  # how long the job of an earlier generation may take to be gone


def submit(request: dict[str, Any]) -> dict[str, Any]:
    """Open the attempt, and see to it that it has exactly one job, if it has units left to run."""
    started = time.time()
    batch_folder: str = os.path.abspath(request["batch_folder"])
    generation: str = request["generation"]
    batch: dict[str, Any] = request["batch"]
    with writing(batch_folder):
        os.makedirs(batch_folder, exist_ok=True)
    with batch_lock(batch_folder) as lock_fds:
        with writing(batch_folder):
            refuse_if_overtaken(batch_folder, generation, started)
            folder = attempts.open_attempt(batch_folder, batch, request["units"], generation).folder
        before = {
            "offset": progress(folder, 0)["offset"],
            "done": done_count(folder, batch["count"]),
        }
        reply = {"folder": folder, "count": batch["count"], **before, "complete": False, "job": None}
        if before["done"] == batch["count"]:
            return {**reply, "complete": True}
        name = job_name(request["name_prefix"], folder, generation)
        job = find_job(folder, generation)
        if job:
            return {**reply, **started_from(folder, job["id"]), "job": {**job, "adopted": True}}
        with writing(folder):
            attempts.update_batch(folder, batch)
            with open(os.path.join(folder, SCRIPT_FILE), "w", encoding="utf-8") as file:
                file.write(request["script"])
        job_id = submit_once(folder, name, generation, before, lock_fds)
        return {**reply, "job": {"id": job_id, "name": name, "adopted": False}}


def refuse_if_overtaken(batch_folder: str, generation: str, started: float) -> None:
    """Stop a call that had to wait while a try of another generation submitted: it may be the older one.

    If it is not, somebody waits for its reply, and calls again.
    """
    latest = max(attempts.attempt_numbers(batch_folder), default=0)
    record = read_record(os.path.join(batch_folder, str(latest)))
    if record and record["generation"] != generation and record["submitted_at"] > started:
        raise ProgramError(
            "busy", f"another try has just submitted a job in {batch_folder}: {record['name']}"
        )


def done_count(folder: str, count: int) -> int:
    """Return how many units have a good result."""
    results = attempts.results_of(folder)
    return sum(results.get(index, {}).get("status") == "done" for index in range(count))


def find_job(folder: str, generation: str) -> dict[str, str] | None:
    """Return the job that the attempt has already, and leave it none besides.

    One that waits or runs, or one that has ended and whose end nobody has been told yet.

    :raises ProgramError: if the controller does not answer, or one may still turn up.
    """
    every = [job for job in read_queue() if is_of_attempt(job.name, folder)]
    former = [job for job in every if job.live and not is_of(job.name, folder, generation)]
    if former:
        end_former(folder, former)
    jobs = [job for job in every if is_of(job.name, folder, generation)]
    record = last = read_record(folder)
    if record.get("generation") != generation:
        record = {}
    live = [job for job in jobs if job.live]
    if live:
        kept = next((job for job in live if job.id == record.get("id")), None)
        kept = kept or min(live, key=lambda job: int(job.id))
        scancel([job.id for job in live if job is not kept])
        adopt(folder, generation, kept)
        return {"id": kept.id, "name": kept.name}
    refuse_in_doubt(folder, last, every)
    return unseen_end(folder, generation, record, jobs)


def refuse_in_doubt(folder: str, record: dict[str, Any], jobs: Sequence[Job]) -> None:
    """Stop where the last submission, of whatever generation, was not answered and its job is not to be seen.

    :raises ProgramError: until enough time has passed.
    """
    named = [job for job in jobs if record and is_of(job.name, folder, record["generation"])]
    if all(job.id in record.get("former", ()) for job in named):
        left = doubt_left(folder, record)
        if left:
            raise in_doubt(pause_s=round(left, 1))


def end_former(folder: str, former: Sequence[Job]) -> None:
    """Cancel jobs of an earlier generation, whose task instance was cleared, and wait until they are gone.

    :raises ProgramError: if they do not go.
    """
    ids = {job.id for job in former}
    with writing(folder):
        for job_id in ids:
            note_cancelled(folder, job_id, "a newer try: the task instance was cleared")
    scancel(sorted(ids))
    deadline = time.monotonic() + FORMER_SECONDS
    while any(job.live for job in read_queue() if job.id in ids):
        if time.monotonic() > deadline:
            raise ProgramError("busy", f"job {', '.join(sorted(ids))} of an earlier try is still ending")
        time.sleep(0.5)


def adopt(folder: str, generation: str, job: Job) -> None:
    """Record a job that was found in the queue: the one who submitted it may have been cut off."""
    record = read_record(folder)
    if record.get("id") != job.id:
        more = {"before": record["before"]} if "before" in record else {}
        with writing(folder):
            write_record(folder, {**new_record(folder, job.name, generation), "id": job.id, **more})


def unseen_end(
    folder: str, generation: str, record: dict[str, Any], ended: Sequence[Job]
) -> dict[str, str] | None:
    """Return the last job if it has ended and nobody has been told yet."""
    if record.get("id"):
        if record.get("collected") or cancelled_by(folder, record["id"]) is not None:
            return None
        return {"id": record["id"], "name": record["name"]}
    unknown = [job for job in ended if job.id not in record.get("former", ())]
    if record and unknown:
        last = max(unknown, key=lambda job: int(job.id))
        adopt(folder, generation, last)
        return {"id": last.id, "name": last.name} if cancelled_by(folder, last.id) is None else None
    return None


def submit_once(
    folder: str, name: str, generation: str, before: dict[str, int], lock_fds: Sequence[int]
) -> str:
    """Submit the job, and record it before and after.

    :param before: what results there are already.
    :raises ProgramError: if SLURM did not take it, or did not say whether it did.
    """
    record = {**new_record(folder, name, generation), "before": before}
    with writing(folder):
        write_record(folder, record)
    try:
        record["id"] = submit_job(folder, name, lock_fds)
    except ProgramError as error:
        if not error.more.get("maybe_accepted"):
            with writing(folder):
                write_record(folder, {**record, "refused": True})
        raise
    with writing(folder):
        write_record(folder, record)
    job_id: str = record["id"]
    return job_id
