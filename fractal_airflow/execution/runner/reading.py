"""Reading what a run has left in its folder, on whatever machine that is: the logs of units, and how they ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from . import attempts
from .text import plain_text

MISSING = "missing"
OUTSIDE = "outside"


def read_text(work_dir: str, path: str, max_bytes: int) -> dict[str, Any]:
    """Return the ``text`` of a file of a run; of a long one its end, and how many bytes were ``left_out``.

    Where that cannot be, return why, as ``problem``. A file that lies elsewhere is never read, whatever links
    a task has made: who asks may be somebody who has no business with this machine's other files.
    """
    real, root = os.path.realpath(path), os.path.realpath(work_dir)
    if os.path.commonpath([real, root]) != root:
        return {"problem": OUTSIDE}
    try:
        with open(real, "rb", opener=_open_file) as file:
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
        return {"problem": error.strerror or str(error)}


def _open_file(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def units_of(step_folder: str, index: int, *, whole_list: bool) -> dict[str, Any] | None:
    """Return the ``folder`` of the newest attempt of a batch, and its ``units``; None where there is none.

    A unit has its ``zarr_url``, its ``status`` (``done``, ``failed``, ``started`` or ``waiting``), its ``log``,
    and, where it has ended, ``seconds`` and ``error``.

    :param whole_list: whether the batch is one command over all images: the first of a step's two halves.
    """
    for folder in _newest_attempts(step_folder, index):
        with suppress(OSError, ValueError, KeyError):  # one that is just being removed
            if ("zarr_url" not in _arguments(folder, 0)) == whole_list:
                count = attempts.read_json(os.path.join(folder, attempts.BATCH_FILE))["count"]
                results = attempts.results_of(folder)
                units = [_unit(folder, number, results.get(number)) for number in range(count)]
                return {"folder": folder, "units": units}
    return None


def _newest_attempts(step_folder: str, index: int) -> Iterator[str]:
    found = []
    for batch in _names(step_folder):
        if batch.startswith(f"{index:04d}-"):
            folder = os.path.join(step_folder, batch)
            for name in filter(str.isdecimal, _names(folder)):
                with suppress(OSError):
                    state = os.stat(os.path.join(folder, name, attempts.BATCH_FILE))
                    found.append((state.st_mtime, int(name), os.path.join(folder, name)))
    return (folder for _, _, folder in sorted(found, reverse=True))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _arguments(folder: str, number: int) -> dict[str, Any]:
    return attempts.read_json(os.path.join(folder, f"{number}-args.json"))


def _unit(folder: str, number: int, result: dict[str, Any] | None) -> dict[str, Any]:
    log = os.path.join(folder, f"{number}-log.txt")
    known: dict[str, Any] = result or {"status": "started" if os.path.exists(log) else "waiting"}
    about: dict[str, Any] = {key: known[key] for key in ("status", "seconds", "error") if key in known}
    return {"zarr_url": _arguments(folder, number).get("zarr_url"), "log": log, **about}
