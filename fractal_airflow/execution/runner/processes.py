"""Processes of Linux: whom they die with, what is below them, and how all of it is ended."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import resource
import signal
import time
import warnings
from collections.abc import Iterable, Iterator

KILL_SECONDS = 5.0  # after SIGKILL; what hangs in the kernel (a dead file server) cannot be waited for

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def die_with_parent(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent is gone."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def flush_c_streams() -> None:
    """Write out what libraries in C have printed."""
    _libc.fflush(None)


def stat_fields(path: str) -> list[bytes]:
    """Return the fields of a ``stat`` file of ``/proc`` from the state on.

    :raises OSError: if the process is gone.
    """
    with open(path, "rb") as file:
        # The command name before them is in brackets, and may hold anything.
        return file.read().rpartition(b")")[2].split()


def parents() -> dict[int, int]:
    """Return the parent of every living process of this machine."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent, *_ = stat_fields(f"/proc/{name}/stat")
                if state != b"Z":
                    found[int(name)] = int(parent)
    return found


def children(pid: int) -> list[int]:
    """Return the processes right below a process."""
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all processes below a process."""
    below = collections.defaultdict(list)
    for child, parent in parents().items():
        below[parent].append(child)
    found = []
    queue = [pid]
    while queue:
        nearest = below.get(queue.pop(), [])
        found += nearest
        queue += nearest
    return found


def end_descendants(grace_seconds: float) -> None:
    """End every process below this one: SIGTERM, and SIGKILL after the grace.

    What its own parent leaves behind comes to the nearest process that adopts orphans, so looking again
    finds it.
    """
    deadline = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while True:
        collections.deque(reap(), maxlen=0)
        below = descendants(os.getpid())
        late = time.monotonic() >= deadline
        if not below or time.monotonic() > deadline + KILL_SECONDS:
            return
        for pid in below:
            if late or pid not in asked:
                send_signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked.update(below)
        time.sleep(0.01)


def send_signal(pid: int, number: int) -> None:
    """Send a signal; a process or group (negative) that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def reap() -> Iterator[tuple[int, int, resource.struct_rusage]]:
    """Take the children of this process that have ended: id, status and what each has used."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, status, usage


def fork() -> int:
    """Fork without Python's warning that threads do not come along: that has been looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def open_fds() -> list[int]:
    """Return the open file descriptors of this process."""
    return [int(name) for name in os.listdir("/proc/self/fd")]


def close_fds(fds: Iterable[int]) -> None:
    """Close file descriptors; one that is closed already is no error."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
