"""Reading what a run has left in its folder, on whatever machine that is: the logs of units, and how they ended."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from . import attempts
from .text import plain_text

MISSING = "missing"
OUTSIDE = "outside"

_FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
"""Without the right to list a folder one may still go through it, where the system knows ``O_PATH``."""


def read_text(work_dir: str, run: str, path: str, max_bytes: int) -> dict[str, Any]:
    """Return the ``text`` of a file of a run; of a long one its end, and how many bytes were ``left_out``.

    Where that cannot be, return why, as ``problem``. A file that lies elsewhere is never read, whatever links
    a task has made: who asks may be somebody who has no business with other runs, or this machine's other files.

    :param run: the run's folder below the work folder, as ``DAG/RUN``.
    """
    real, root = os.path.realpath(path), os.path.realpath(work_dir)
    folder = os.path.join(root, run)
    if os.path.commonpath([real, folder]) != folder:
        return {"problem": OUTSIDE}
    try:
        with open(_open_below(root, os.path.relpath(real, root).split(os.sep)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {"problem": "it is no file"}
            left_out = max(0, file.seek(0, os.SEEK_END) - max_bytes)
            file.seek(left_out)
            if left_out:
                left_out += len(file.readline())
            return {"text": plain_text(file.read(max_bytes)), "left_out": left_out}
    except (FileNotFoundError, NotADirectoryError):
        return {"problem": MISSING}
    except OSError as error:
        return {"problem": OUTSIDE if error.errno == errno.ELOOP else error.strerror or str(error)}


def _open_below(root: str, names: list[str]) -> int:
    """Open a file by the folders that lead to it, one by one, so that a link which comes just now leads nowhere."""
    found = os.open(root, _FOLDER)
    for name in names[:-1]:
        found = _open_next(found, name, _FOLDER)
    return _open_next(found, names[-1], os.O_RDONLY | os.O_NONBLOCK)


def _open_next(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def read_log(
    work_dir: str, step_folder: str, index: int, unit: int, max_bytes: int, *, whole_list: bool
) -> dict[str, Any] | None:
    """Return the log of one unit of the newest attempt of a batch, as :func:`read_text` does, and its ``path``.

    None where there is no attempt.

    :param step_folder: WORK_DIR/DAG/RUN/STEP.
    :param unit: its place in the batch.
    """
    folder = _newest_attempt(step_folder, index, whole_list)
    if folder is None:
        return None
    path = _log(folder, unit)
    run = os.path.relpath(os.path.dirname(step_folder), work_dir)
    return {"path": path, **read_text(work_dir, run, path, max_bytes)}


def units_of(step_folder: str, index: int, *, whole_list: bool) -> dict[str, Any] | None:
    """Return the ``folder`` of the newest attempt of a batch, and its ``units``; None where there is none.

    A unit has its ``zarr_url``, its ``status`` (``done``, ``failed``, ``started`` or ``waiting``), its ``log``,
    and, where it has ended, ``seconds`` and ``error``.

    :param whole_list: whether the batch is one command over all images: the first of a step's two halves.
    """
    folder = _newest_attempt(step_folder, index, whole_list)
    if folder is None:
        return None
    try:
        count = attempts.read_json(os.path.join(folder, attempts.BATCH_FILE))["count"]
        results = attempts.results_of(folder)
        units = [_unit(folder, number, results.get(number)) for number in range(count)]
    except (OSError, ValueError, KeyError):  # it is just being removed
        return None
    return {"folder": folder, "units": units}


def _newest_attempt(step_folder: str, index: int, whole_list: bool) -> str | None:
    for folder in _attempts(step_folder, index):
        with suppress(OSError, ValueError):  # one that is just being removed
            if ("zarr_url" not in _arguments(folder, 0)) == whole_list:
                return folder
    return None


def _attempts(step_folder: str, index: int) -> Iterator[str]:
    found = []
    for batch in _names(step_folder):
        if batch.startswith(f"{index:04d}-"):
            folder = os.path.join(step_folder, batch)
            for name in filter(str.isdecimal, _names(folder)):
                with suppress(OSError):
                    state = os.stat(os.path.join(folder, name, attempts.BATCH_FILE))
                    found.append((state.st_mtime, int(name), os.path.join(folder, name)))
    return (folder for _, _, folder in sorted(found, reverse=True))


def _log(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number}-log.txt")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _arguments(folder: str, number: int) -> dict[str, Any]:
    return attempts.read_json(os.path.join(folder, f"{number}-args.json"))


def _unit(folder: str, number: int, result: dict[str, Any] | None) -> dict[str, Any]:
    log = _log(folder, number)
    known: dict[str, Any] = result or {"status": "started" if os.path.exists(log) else "waiting"}
    about: dict[str, Any] = {key: known[key] for key in ("status", "seconds", "error") if key in known}
    return {"zarr_url": _arguments(folder, number).get("zarr_url"), "log": log, **about}
