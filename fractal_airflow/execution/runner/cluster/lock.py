"""One program at a time in the folder of a batch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ProgramError, writing

LOCK_FILE = ".cluster.lock"
WAIT_SECONDS = 60.0
STALE_SECONDS = 600.0  # longer than any request takes


@contextmanager
def batch_lock(folder: str, wait_s: float = WAIT_SECONDS) -> Iterator[tuple[int, ...]]:
    """Hold the lock of a batch's folder.

    :return: open files that hold it as well: a command that inherits them keeps the lock to its end, even
        if this program is killed before.
    :raises ProgramError: if another program holds it too long, or the folder cannot be written.
    """
    path = os.path.join(folder, LOCK_FILE)
    with writing(folder):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(deadline, folder)
            except OSError:  # a file system without such locks
                with _folder_lock(f"{path}.d", deadline, folder):
                    yield ()
                return
        yield (fd,)
    finally:
        os.close(fd)


@contextmanager
def _folder_lock(path: str, deadline: float, folder: str) -> Iterator[None]:
    """Hold a lock that is a folder: only one program can make it, on any file system."""
    while True:
        try:
            os.mkdir(path)
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - os.stat(path).st_mtime > STALE_SECONDS:  # its maker was killed
                    os.rmdir(path)
                    continue
            _wait(deadline, folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _wait(deadline: float, folder: str) -> None:
    if time.monotonic() > deadline:
        raise ProgramError("busy", f"another call is still at work in {folder}")
    time.sleep(0.05)
