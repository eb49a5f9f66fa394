"""Removing the folders of old runs, WORK_DIR/DAG_ID/RUN_ID/, on whatever machine they are.

What is below them tells them from others: ORDER_TASK/INDEX-HASH/ATTEMPT/, and reports of the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from typing import Any

REMOVED_FOLDER = ".removed"  # folders go there first, so that an interrupted removal leaves no half run
LOCK_FILE = "runner.lock"

_STEP = re.compile(r"\d{2,}_.+")
_REPORT = re.compile(r"\.?(.+\.)?report\.md(\.[0-9a-f]+\.part)?")  # perhaps one whose writing was interrupted
_BATCH = re.compile(r"\d{4,}-[0-9a-f]{12}")
_BLOCK_SIZE = 512  # of `st_blocks`, whatever the file system's own is


def clean(
    work_dir: str, keep: Collection[str], before: float, *, dry_run: bool, busy: Collection[str] = ()
) -> dict[str, Any]:
    """Remove the folders of runs in which nothing has changed since a point in time.

    Only folders that look like a run's, level by level, are ever touched: the work folder may hold other
    things, too.

    :param keep: runs to keep, whatever their age, as ``DAG/RUN``: the names of their folders.
    :param before: seconds since the epoch; a run with anything newer in it stays.
    :param dry_run: only tell what would be removed.
    :param busy: folders in which jobs are alive: the runs that they are in stay.
    :return: ``removed``: the ``folder`` and the ``bytes`` of each; ``in_use``: old folders with something
        alive in them; ``failed``: the ``folder`` and the ``error`` of each that could not be removed.
    """
    work_dir = os.path.abspath(work_dir)
    keep = frozenset(keep)
    ended: dict[str, Any] = {"removed": [], "in_use": [], "failed": []}
    if not dry_run:
        _empty(os.path.join(work_dir, REMOVED_FOLDER))
    for folder in run_folders(work_dir):
        if os.path.relpath(folder, work_dir) in keep:
            continue
        try:
            size = _size_of_old(folder, before)
            if size is None:
                continue
            if _is_used(folder, busy):
                ended["in_use"].append(folder)
                continue
            if not dry_run:
                _remove(work_dir, folder)
            ended["removed"].append({"folder": folder, "bytes": size})
        except OSError as error:
            message = f"{error.strerror or error} ({error.filename})"
            ended["failed"].append({"folder": folder, "error": message})
    return ended


def run_folders(work_dir: str) -> Iterator[str]:
    """Yield the folders of all runs, and nothing that only lies where a run might.

    :raises OSError: if the work folder cannot be read; one that is not there yet has no runs.
    """
    if not os.path.lexists(work_dir):
        return
    for dag_folder in _subfolders(work_dir):
        with contextlib.suppress(PermissionError):  # somebody else's, beside ours
            yield from filter(_is_run, _subfolders(dag_folder))


def _is_run(folder: str) -> bool:
    """Tell whether a folder has steps, which have nothing but batches, and perhaps reports: what only we make."""
    steps = [name for name in _names(folder) if not _REPORT.fullmatch(name)]
    return bool(steps) and all(
        _STEP.fullmatch(step) and all(_BATCH.fullmatch(name) for name in _names(os.path.join(folder, step)))
        for step in steps
    )


def _size_of_old(folder: str, before: float) -> int | None:
    """Return the space that a folder takes; None where something in it is too new."""
    size = 0
    places = [folder]
    while places:
        place = places.pop()
        entries = [os.lstat(place)]
        with os.scandir(place) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    places.append(entry.path)
                else:
                    entries.append(entry.stat(follow_symlinks=False))
        if any(entry.st_mtime >= before for entry in entries):
            return None
        size += sum(entry.st_blocks * _BLOCK_SIZE for entry in entries)
    return size


def _is_used(folder: str, busy: Collection[str]) -> bool:
    """Tell whether a job, or a runner of this machine, works in a folder."""
    return any(other == folder or other.startswith(folder + os.sep) for other in busy) or any(
        _is_locked(os.path.join(place, LOCK_FILE))
        for place, _, files in os.walk(folder)
        if LOCK_FILE in files
    )


def _is_locked(path: str) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(fd)
    return False


def _remove(work_dir: str, folder: str) -> None:
    removed = os.path.join(work_dir, REMOVED_FOLDER)
    os.makedirs(removed, exist_ok=True)
    grave = os.path.join(removed, secrets.token_hex(8))
    os.rename(folder, grave)
    shutil.rmtree(grave)
    with contextlib.suppress(OSError):
        os.rmdir(removed)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))  # the DAG's, where this was its last run


def _empty(removed: str) -> None:
    """Remove what a former, interrupted cleaning has left."""
    shutil.rmtree(removed, ignore_errors=True)


def _subfolders(folder: str) -> list[str]:
    """Return the folders in a folder, sorted; hidden ones and links are none of ours."""
    with os.scandir(folder) as listing:
        found = [
            entry.path
            for entry in listing
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        ]
    return sorted(found)


def _names(folder: str) -> list[str]:
    """Return the names in a folder, without hidden ones; for what is no folder, one that fits nowhere."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return [""]
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return [""]
