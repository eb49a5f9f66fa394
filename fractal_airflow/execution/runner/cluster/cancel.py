"""Cancelling jobs: by id, by name, or all of an attempt, a batch or a step."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from . import commands
from .errors import ProgramError, in_doubt
from .lock import batch_lock
from .names import attempt_mark, attempt_mark_in, is_of, is_of_attempt
from .queue import Job, read_queue
from .records import doubt_left, note_cancelled, read_record

# Said of a job that ended in the meantime, which is as good.
_GONE = ("Invalid job id specified", "already completing or completed")


def cancel(request: dict[str, Any]) -> dict[str, Any]:
    """Cancel jobs that wait or run.

    Each is given by its id, its name, or both; else all jobs of the folder's attempts are meant, or those
    of a generation alone.

    :raises ProgramError: if one of them may still turn up; those that are there have been cancelled then.
    """
    by: str = request["by"]
    wanted: list[dict[str, Any]] = request["jobs"]
    with ExitStack() as stack:
        for item in wanted:
            if not item.get("id"):  # a submission may be under way: have it come to its end first
                wait_for_submission(stack, item["folder"])
        live = live_jobs()
        found = {job.id: folder for item in wanted for job, folder in jobs_of(item, live)}
    cancelled = cancel_found(found, by)
    for item in wanted:
        if not (item.get("id") or item.get("name")):
            stop_if_jobs_may_turn_up(attempts_of(item["folder"]), found.values(), item.get("generation"))
    return {"cancelled": cancelled}


def stop_if_jobs_may_turn_up(
    folders: Iterable[str], found: Collection[str], generation: str | None = None
) -> None:
    """Stop where SLURM may have taken a job that the queue does not show yet.

    :param found: attempts whose jobs the queue does show.
    :raises ProgramError: until enough time has passed.
    """
    records = {folder: read_record(folder) for folder in {*folders} - {*found}}
    doubts = [
        folder
        for folder, record in records.items()
        if generation in (None, record.get("generation")) and doubt_left(folder, record) > 0
    ]
    if doubts:
        raise in_doubt()


def leftovers(request: dict[str, Any]) -> dict[str, Any]:
    """Cancel all jobs of all attempts below a step's folder.

    :raises ProgramError: if one of them may still turn up; those that are there have been cancelled then.
    """
    marks = {attempt_mark(folder): folder for folder in attempts_below(request["folder"])}
    found = {job.id: marks[mark] for job in live_jobs() if (mark := attempt_mark_in(job.name)) in marks}
    cancelled = cancel_found(found, request["by"])
    stop_if_jobs_may_turn_up(marks.values(), found.values())
    return {"cancelled": cancelled}


def wait_for_submission(stack: ExitStack, folder: str) -> None:
    """Hold the lock of a batch, if it is there."""
    batch_folder = os.path.abspath(folder)
    if os.path.basename(batch_folder).isdecimal():
        batch_folder = os.path.dirname(batch_folder)
    if os.path.isdir(batch_folder):
        with suppress(ProgramError):
            stack.enter_context(batch_lock(batch_folder, wait_s=10.0))


def live_jobs() -> list[Job]:
    """Return the user's jobs that wait or run.

    :raises ProgramError: if the controller does not answer.
    """
    return [job for job in read_queue() if job.live]


def jobs_of(item: dict[str, Any], jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Yield the jobs that a request means, and the folder of each one's attempt."""
    job_id, name, generation = item.get("id"), item.get("name"), item.get("generation")
    if job_id or name:
        yield from ((job, item["folder"]) for job in jobs if job.id == job_id or job.name == name)
        return
    for folder in attempts_of(item["folder"]):
        for job in jobs:
            if is_of(job.name, folder, generation) if generation else is_of_attempt(job.name, folder):
                yield job, folder


def attempts_of(folder: str) -> list[str]:
    """Return the attempts that a folder is or holds."""
    folder = os.path.abspath(folder)
    if os.path.basename(folder).isdecimal():
        return [folder]
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.isdecimal()]
    except OSError:
        return []


def attempts_below(step_folder: str) -> list[str]:
    """Return all attempts of all batches of a step."""
    try:
        batches = sorted(os.listdir(step_folder))
    except OSError:
        return []
    return [folder for name in batches for folder in attempts_of(os.path.join(step_folder, name))]


def cancel_found(found: dict[str, str], by: str) -> list[str]:
    """Note who cancels jobs in their attempts' folders, and cancel them."""
    for job_id, folder in found.items():
        with suppress(OSError):  # a full disk keeps no job alive
            note_cancelled(folder, job_id, by)
    scancel(sorted(found, key=int))
    return sorted(found, key=int)


def scancel(ids: Sequence[str]) -> None:
    """Cancel jobs by their ids.

    :raises ProgramError: if the controller does not answer.
    """
    if not ids:
        return
    ran = commands.run("scancel", *ids)
    lines = [line for line in ran.err.splitlines() if not any(words in line for words in _GONE)]
    if ran.code is None or (ran.code != 0 and lines):
        raise ProgramError("controller", ran.words)
