"""The SLURM job that a runner may be."""

from __future__ import annotations

import json
import os

JOB_FILE = "job.json"  # written by the cluster program


def job_id() -> str | None:
    """Return the id of the job that this process is in; None if it is in none."""
    return os.environ.get("SLURM_JOB_ID")


def successor(folder: str) -> str | None:
    """Return the job that an attempt counts on if it is another than this one.

    SLURM may take a job long after it seemed to have failed to, and another was submitted in its place.
    """
    own = job_id()
    if own is None:
        return None
    try:
        with open(os.path.join(folder, JOB_FILE), encoding="utf-8") as file:
            counted_on = json.load(file).get("id")
    except (OSError, ValueError, AttributeError):
        return None
    return str(counted_on) if counted_on and counted_on != own else None
