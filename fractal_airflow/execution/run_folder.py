"""The run folder of a batch: WORK_DIR/DAG_ID/RUN_ID/ORDER_TASK/BATCH/ATTEMPT/, and the files in it.

An attempt is open until its task instance has taken the results. A retry of an open attempt adopts it, so
that finished units are not run again; clearing a finished task instance starts the next attempt.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.runner.results import read_results
from fractal_airflow.execution.units import Outcome, UnitError, Work, log_path, outcome_from_result

BATCH_FILE = "batch.json"
RESULTS_FILE = "results.jsonl"
STATE_FILE = "attempt.json"

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


def run_folder(work_dir: Path | str, dag_id: str, run_id: str, order: int, task: str) -> Path:
    """Return the folder of one step of one DAG run.

    :param order: the step's place in the workflow, so that listings are in the order of the run.
    """
    return Path(work_dir) / safe_name(dag_id) / safe_name(run_id) / f"{order:02d}_{safe_name(task)}"


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
        return read_results(str(self.folder / RESULTS_FILE))

    def take(self) -> None:
        """Note that the task instance took the complete results: only its own retry adopts them now."""
        with _writing(self.folder):
            _write_json(self.folder / STATE_FILE, {**_read_state(self.folder), "taken": True})

    def reject(self, index: int, message: str) -> None:
        """Turn a unit's good result into a failed one, so that a retry runs it again.

        For an output that is JSON but breaks the schema of task outputs.
        """
        line = {"index": index, "status": "failed", "kind": "output", "error": message}
        line |= {"rejected_at": round(time.time(), 3)}
        with _writing(self.folder), (self.folder / RESULTS_FILE).open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line) + "\n")


def open_attempt(batch_folder: Path, work: Work, generation: str) -> Attempt:
    """Return the attempt to work in: an open one, or the next.

    :param generation: what the retries of a task instance share, and clearing it changes.
    :raises WorkFolderError: if the work folder cannot be written.
    """
    with _writing(batch_folder):
        batch_folder.mkdir(parents=True, exist_ok=True)
        while True:
            latest = _latest(batch_folder)
            if latest and _may_adopt(batch_folder / str(latest), generation):
                return _adopt(batch_folder / str(latest), work, generation)
            created = _create(batch_folder, latest + 1, work, generation)
            if created:
                return created


def attempt_outcomes(folder: Path, count: int) -> list[Outcome]:
    """Return the outcome of each unit of an attempt; a unit without a result failed in its job."""
    results = read_results(str(folder / RESULTS_FILE))
    lost = UnitError("job", "no result: it was not started, or its runner died before it ended")
    return [
        outcome_from_result(results[index], str(folder))
        if index in results
        else Outcome("failed", error=lost, log=log_path(str(folder), index))
        for index in range(count)
    ]


def _latest(batch_folder: Path) -> int:
    return max((int(entry.name) for entry in batch_folder.iterdir() if entry.name.isdecimal()), default=0)


def _may_adopt(folder: Path, generation: str) -> bool:
    state = _read_state(folder)
    return state.get("generation") == generation or not state.get("taken")


def _adopt(folder: Path, work: Work, generation: str) -> Attempt:
    state = _read_state(folder)
    if state.get("generation") != generation:
        _write_json(folder / STATE_FILE, {**state, "generation": generation})
    batch = _batch(work)
    if json.loads((folder / BATCH_FILE).read_text(encoding="utf-8")) != batch:
        _write_json(folder / BATCH_FILE, batch)
    return Attempt(folder, len(work.units), adopted=True)


def _create(batch_folder: Path, number: int, work: Work, generation: str) -> Attempt | None:
    """Make an attempt's folder as a whole; None if another process was faster."""
    unfinished = batch_folder / f".new-{secrets.token_hex(6)}"
    try:
        unfinished.mkdir()
        for index, arguments in enumerate(work.units):
            (unfinished / f"{index}-args.json").write_text(json.dumps(arguments, indent=1), encoding="utf-8")
        _write_json(unfinished / BATCH_FILE, _batch(work))
        _write_json(unfinished / STATE_FILE, {"generation": generation, "taken": False})
        folder = batch_folder / str(number)
        unfinished.rename(folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Attempt(folder, len(work.units))


def _batch(work: Work) -> dict[str, Any]:
    """Return what the runner reads: the work without the arguments, which have files of their own."""
    return {
        "version": 1,
        "command": list(work.command),
        "count": len(work.units),
        "parallel": work.parallel,
        "warm_start": work.warm_start,
    }


def _read_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    return state


def _write_json(path: Path, data: object) -> None:
    """Replace a file as a whole: a reader, or a crash, never sees half of it."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the folder and says what to do."""
    try:
        yield
    except OSError as error:
        raise WorkFolderError(
            f"The work folder {folder} cannot be written: {error.strerror or error} ({error.filename}). "
            "Make room or give this user the right to write there, or set another work_dir in the "
            "resource's connection."
        ) from error
