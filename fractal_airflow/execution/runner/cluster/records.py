"""What an attempt's folder says about its job: ``job.json``, and notes of who cancelled one."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from ..attempts import read_json, write_json

JOB_FILE = "job.json"
DOUBT_SECONDS = 30.0  # how long after an unanswered submission its job may still turn up in the queue
PILE_SECONDS = 10.0  # how long a controller that answers again may be at work on what has piled up


def read_record(folder: str) -> dict[str, Any]:
    """Return the record of the last submission; an empty one if there is none.

    ``id`` (None from before the submission until its end is known), ``name``, ``generation``,
    ``submitted_at``; ``before``, what results there were; ``collected`` once its results were asked for;
    ``former``, the jobs before it.
    """
    try:
        return read_json(os.path.join(folder, JOB_FILE))
    except (OSError, ValueError):
        return {}


def write_record(folder: str, record: dict[str, Any]) -> None:
    """Write the record.

    :raises OSError: if the folder cannot be written.
    """
    write_json(os.path.join(folder, JOB_FILE), record)


def new_record(folder: str, name: str, generation: str) -> dict[str, Any]:
    """Return the record of a submission that begins now."""
    last = read_record(folder)
    former = [*last.get("former", ()), *([last["id"]] if last.get("id") else ())]
    return {
        "id": None,
        "name": name,
        "generation": generation,
        "submitted_at": round(time.time(), 3),
        "former": former,
    }


def started_from(folder: str, job_id: str | None) -> dict[str, int]:
    """Return the results that there were before a job: how many good ones, and how long the file was."""
    record = read_record(folder)
    before: dict[str, int] = record.get("before", {}) if job_id and record.get("id") == job_id else {}
    return before


def doubt_left(folder: str, record: dict[str, Any]) -> float:
    """Return for how many seconds the job of an unanswered submission may still turn up in the queue.

    To be asked when the controller has just shown the queue without it: one that was stuck takes what has
    piled up in no certain order, so the time begins with the first answer.
    """
    if not record or record.get("id") or record.get("refused"):
        return 0.0
    now = time.time()
    if "answered_at" not in record:
        record["answered_at"] = round(now, 3)
        with suppress(OSError):
            write_record(folder, record)
    end = max(record["submitted_at"] + DOUBT_SECONDS, record["answered_at"] + PILE_SECONDS)
    left = end - now
    return left if 0 < left <= DOUBT_SECONDS else 0.0  # more: somebody has set the clock


def note_cancelled(folder: str, job_id: str, by: str) -> None:
    """Note who cancels a job, for whoever finds it cancelled.

    :raises OSError: if the folder cannot be written.
    """
    write_json(_note_path(folder, job_id), {"by": by, "at": round(time.time(), 3)})


def cancelled_by(folder: str, job_id: str) -> str | None:
    """Return who cancelled a job; None if nobody did here."""
    try:
        return str(read_json(_note_path(folder, job_id))["by"])
    except (OSError, ValueError, KeyError):
        return None


def _note_path(folder: str, job_id: str) -> str:
    return os.path.join(folder, f"cancelled-{job_id}.json")
