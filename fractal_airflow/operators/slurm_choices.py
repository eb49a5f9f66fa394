"""What a run may choose of its jobs on a cluster: the account they are charged to, and how their shell begins."""

from __future__ import annotations

import re

from fractal_airflow.exceptions import WorkflowError

ACCOUNT_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]*"


def parse_account(value: object) -> str | None:
    """
    Return the SLURM account of a run, or None if it chooses none.

    :raises WorkflowError: where it is no name of an account.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not re.fullmatch(ACCOUNT_PATTERN, value.strip()):
        raise WorkflowError(
            f"slurm_account: {value!r} is no name of a SLURM account: letters, digits and any of _.@:+-"
        )
    return value.strip()


def parse_worker_init(value: object) -> tuple[str, ...] | None:
    """
    Return the lines of shell that a job's script begins with, or None if the run chooses none.

    :raises WorkflowError: where it is no text.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or "\0" in value:
        raise WorkflowError(f"worker_init: must be lines of shell, not {value!r:.80}")
    return tuple(value.strip("\n").splitlines())
