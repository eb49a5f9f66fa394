"""The names of jobs: from them alone SLURM's queue tells which attempt a job works for.

``PREFIX-ATTEMPT-GENERATION``: the prefix is for people, the rest are digests.
"""

from __future__ import annotations

import hashlib
import os
import re

_MOST_PREFIX = 60
_ATTEMPT_LENGTH = 16
_GENERATION_LENGTH = 8


def job_name(prefix: str, folder: str, generation: str) -> str:
    """Return the name of the job of an attempt for one generation of its task instance."""
    readable = re.sub(r"[^A-Za-z0-9_.+-]+", "-", prefix).strip("-")[:_MOST_PREFIX] or "job"
    return f"{readable}{attempt_mark(folder)}{generation_mark(generation)}"


def attempt_mark(folder: str) -> str:
    """Return what the names of all jobs of an attempt have in them."""
    return f"-{_digest(os.path.abspath(folder), _ATTEMPT_LENGTH)}"


def generation_mark(generation: str) -> str:
    """Return the end of the names of all jobs of a generation."""
    return f"-{_digest(generation, _GENERATION_LENGTH)}"


def attempt_mark_in(name: str) -> str:
    """Return the part of a job's name that says which attempt it works for; of others' jobs, anything."""
    return name[-_ATTEMPT_LENGTH - _GENERATION_LENGTH - 2 : -_GENERATION_LENGTH - 1]


def is_of_attempt(name: str, folder: str) -> bool:
    """Tell whether a job's name is one of an attempt, in any generation."""
    return attempt_mark_in(name) == attempt_mark(folder)


def is_of(name: str, folder: str, generation: str) -> bool:
    """Tell whether a job's name is one of an attempt and of a generation."""
    return name.endswith(attempt_mark(folder) + generation_mark(generation))


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
