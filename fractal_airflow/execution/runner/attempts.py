"""The attempts of a batch, in folders of their own: BATCH/1/, BATCH/2/ ...

An attempt is open until its task instance has taken the results. A retry of an open attempt adopts it, so
that finished units are not run again; clearing a finished task instance starts the next attempt.

Used where the units run: by the local resource, and by the cluster program on a cluster.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from .results import read_results

BATCH_FILE = "batch.json"
RESULTS_FILE = "results.jsonl"
STATE_FILE = "attempt.json"


class Opened(NamedTuple):
    """An attempt to work in.

    :param adopted: whether the folder is there since an earlier try of the task instance.
    """

    folder: str
    adopted: bool


def open_attempt(
    batch_folder: str, batch: Mapping[str, Any], units: Sequence[Mapping[str, Any]], generation: str
) -> Opened:
    """Return the attempt to work in: an open one, or the next.

    What an adopted one has in its batch file stays; :func:`update_batch` brings it up to date.

    :param batch: what the runner reads: the work without the arguments, which have files of their own.
    :param units: the arguments of each unit.
    :param generation: what the retries of a task instance share, and clearing it changes.
    :raises OSError: if the folder cannot be written.
    """
    os.makedirs(batch_folder, exist_ok=True)
    while True:
        latest = max(attempt_numbers(batch_folder), default=0)
        folder = os.path.join(batch_folder, str(latest))
        if latest and _may_adopt(folder, generation):
            _adopt(folder, generation)
            return Opened(folder, adopted=True)
        created = _create(batch_folder, latest + 1, batch, units, generation)
        if created:
            return Opened(created, adopted=False)


def attempt_numbers(batch_folder: str) -> list[int]:
    """Return the numbers of the attempts that a batch has.

    :raises OSError: if the folder cannot be read.
    """
    return [int(name) for name in os.listdir(batch_folder) if name.isdecimal()]


def update_batch(folder: str, batch: Mapping[str, Any]) -> None:
    """Have the units that are still to run be run as is asked now.

    :raises OSError: if the folder cannot be written.
    """
    path = os.path.join(folder, BATCH_FILE)
    if read_json(path) != batch:
        write_json(path, batch)


def take(folder: str) -> None:
    """Note that the task instance took the complete results: only its own retry adopts them now.

    :raises OSError: if the folder cannot be written.
    """
    path = os.path.join(folder, STATE_FILE)
    write_json(path, {**read_json(path), "taken": True})


def reject(folder: str, index: int, message: str) -> None:
    """Turn a unit's good result into a failed one, so that a retry runs it again.

    For an output that is JSON but breaks the schema of task outputs.

    :raises OSError: if the folder cannot be written.
    """
    line = {"index": index, "status": "failed", "kind": "output", "error": message}
    line["rejected_at"] = round(time.time(), 3)
    with open(os.path.join(folder, RESULTS_FILE), "a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(line) + "\n")
    path = os.path.join(folder, STATE_FILE)
    state = read_json(path)
    if state.get("taken"):  # they were not complete after all
        write_json(path, {**state, "taken": False})


def results_of(folder: str, start: int = 0) -> dict[int, dict[str, Any]]:
    """Return the last result line of each unit that has one.

    :param start: the place in the results file from which on lines count.
    """
    return read_results(os.path.join(folder, RESULTS_FILE), start)


def _may_adopt(folder: str, generation: str) -> bool:
    state = read_json(os.path.join(folder, STATE_FILE))
    return state.get("generation") == generation or not state.get("taken")


def _adopt(folder: str, generation: str) -> None:
    path = os.path.join(folder, STATE_FILE)
    state = read_json(path)
    if state.get("generation") != generation:
        write_json(path, {**state, "generation": generation})


def _create(
    batch_folder: str,
    number: int,
    batch: Mapping[str, Any],
    units: Sequence[Mapping[str, Any]],
    generation: str,
) -> str | None:
    """Make an attempt's folder as a whole; None if another process was faster."""
    unfinished = os.path.join(batch_folder, f".new-{secrets.token_hex(6)}")
    try:
        os.mkdir(unfinished)
        for index, arguments in enumerate(units):
            path = os.path.join(unfinished, f"{index}-args.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(arguments, file, indent=1)
        write_json(os.path.join(unfinished, BATCH_FILE), batch)
        write_json(os.path.join(unfinished, STATE_FILE), {"generation": generation, "taken": False})
        folder = os.path.join(batch_folder, str(number))
        os.rename(unfinished, folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def read_json(path: str) -> dict[str, Any]:
    """Return the object that a file holds.

    :raises OSError: if it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        data: dict[str, Any] = json.load(file)
    return data


def write_json(path: str, data: Mapping[str, Any]) -> None:
    """Replace a file as a whole: a reader, or a crash, never sees half of it.

    :raises OSError: if it cannot be written.
    """
    unfinished = f"{path}.new-{secrets.token_hex(4)}"  # several may write at a time
    try:
        with open(unfinished, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1) + "\n")
        os.replace(unfinished, path)
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
