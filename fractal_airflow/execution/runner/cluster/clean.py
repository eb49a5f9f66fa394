"""Removing the folders of old runs, but none that a job works in."""

from __future__ import annotations

import os
from typing import Any

from .. import cleaning
from .cancel import attempts_below, live_jobs
from .names import attempt_mark, attempt_mark_in


def clean(request: dict[str, Any]) -> dict[str, Any]:
    """Remove the folders of runs that are old, are not to be kept, and have no job that waits or runs.

    The reply is that of :func:`cleaning.clean`.
    """
    work_dir: str = request["work_dir"]
    marks = {attempt_mark_in(job.name) for job in live_jobs()}
    busy = (
        [folder for folder in attempts_of_all_runs(work_dir) if attempt_mark(folder) in marks]
        if marks
        else []
    )
    return cleaning.clean(work_dir, request["keep"], request["before"], dry_run=request["dry_run"], busy=busy)


def attempts_of_all_runs(work_dir: str) -> list[str]:
    """Return the folders of all attempts below a work folder."""
    return [
        folder
        for run in cleaning.run_folders(os.path.abspath(work_dir))
        for step in sorted(os.listdir(run))
        for folder in attempts_below(os.path.join(run, step))
    ]
