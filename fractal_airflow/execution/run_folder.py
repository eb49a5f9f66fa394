"""The run folder of a batch: WORK_DIR/DAG_ID/RUN_ID/ORDER_TASK/BATCH/ATTEMPT/, and its attempts.

The rules of attempts are in :mod:`fractal_airflow.execution.runner.attempts`, which also works on a cluster.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.runner import attempts
from fractal_airflow.execution.runner.attempts import RESULTS_FILE as RESULTS_FILE
from fractal_airflow.execution.units import Outcome, Work, outcomes_of

_MAX_NAME_LENGTH = 120
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+=@,-][A-Za-z0-9_+=@,.-]*")


def safe_name(text: str) -> str:
    """Return a file name for a text of the user's: plain names as they are, others with a hash.

    Two texts never get the same name: a plain name has no ``~``, and every other one ends in ``~HASH``.
    """
    if _PLAIN_NAME.fullmatch(text) and len(text) <= _MAX_NAME_LENGTH:
        return text
    readable = re.sub(r"[^A-Za-z0-9_+=@,.-]+", "-", text).lstrip(".")[: _MAX_NAME_LENGTH - 13]
    return f"{readable}~{_digest(text)}"


def run_name(dag_id: str, run_id: str) -> str:
    """Return what the folder of a run is called below the work folder: ``DAG/RUN``."""
    return f"{safe_name(dag_id)}/{safe_name(run_id)}"


def run_folder(work_dir: Path | str, dag_id: str, run_id: str, order: int, task: str) -> Path:
    """Return the folder of one step of one DAG run.

    :param order: the step's place in the workflow, so that listings are in the order of the run.
    """
    return Path(work_dir) / run_name(dag_id, run_id) / f"{order:02d}_{safe_name(task)}"


def batch_folder(run_folder: Path, index: int, work: Work) -> Path:
    """Return the folder of one batch, known by what is in it.

    A cleared selection may give other units to the same index; these then get a folder of their own.
    """
    content = json.dumps([work.command, work.units], sort_keys=True)
    return run_folder / f"{index:04d}-{_digest(content)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Attempt:
    """One try at running a batch, in a folder of its own.

    :param adopted: whether the folder is there since an earlier try of the task instance.
    """

    folder: Path
    count: int
    adopted: bool = False

    def results(self) -> dict[int, dict[str, Any]]:
        """Return the last result line of each unit that has one."""
        return attempts.results_of(str(self.folder))

    def take(self) -> None:
        """Note that the task instance took the complete results: only its own retry adopts them now."""
        with writing(self.folder):
            attempts.take(str(self.folder))

    def reject(self, index: int, message: str) -> None:
        """Turn a unit's good result into a failed one, so that a retry runs it again."""
        with writing(self.folder):
            attempts.reject(str(self.folder), index, message)


def open_attempt(batch_folder: Path, work: Work, generation: str) -> Attempt:
    """Return the attempt to work in: an open one, or the next.

    :param generation: what the retries of a task instance share, and clearing it changes.
    :raises WorkFolderError: if the work folder cannot be written.
    """
    batch = work.batch_file()
    with writing(batch_folder):
        folder, adopted = attempts.open_attempt(str(batch_folder), batch, work.units, generation)
        if adopted:
            attempts.update_batch(folder, batch)
    return Attempt(Path(folder), len(work.units), adopted)


def attempt_outcomes(folder: Path, count: int) -> list[Outcome]:
    """Return the outcome of each unit of an attempt; a unit without a result failed in its job."""
    return outcomes_of(attempts.results_of(str(folder)), str(folder), count)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the folder and says what to do."""
    try:
        yield
    except OSError as error:
        raise WorkFolderError(
            f"The work folder {folder} cannot be written: {error.strerror or error} ({error.filename}). "
            "Make room or give this user the right to write there, or set another work_dir in the "
            "resource's connection."
        ) from error
