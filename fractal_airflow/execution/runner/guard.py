"""The guard: starts the scheduler, passes on the end, and leaves no process behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time

from . import EXIT_LOCKED, EXIT_TERMINATED, EXIT_UNITS_FAILED, EXIT_WRITING_FAILED, GRACE_SECONDS
from .batch import Batch
from .job import successor
from .processes import adopt_orphans, die_with_parent, end_descendants, open_fds
from .results import ResultsError
from .scheduler import Scheduler
from .signals import Signals, is_ending

LOCK_SECONDS = 15.0  # how long a former runner of this folder may take to be gone


def main(arguments: list[str]) -> int:
    """``runner.pyz BATCH_DIR [PARENT_PID]``: with a parent's id, the runner ends when that process does."""
    for fd in open_fds():
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, fd <= 2)  # what was handed down is for the guard and the scheduler
    parent = int(arguments[1]) if len(arguments) > 1 else None
    if parent is not None:
        die_with_parent(parent, signal.SIGTERM)
    adopt_orphans()
    try:
        batch = Batch(arguments[0])
        if not lock(batch):
            print(f"another runner works in {batch.folder}", file=sys.stderr)
            return EXIT_LOCKED
        other = successor(batch.folder)
        if other:
            print(f"job {other} was submitted in the place of this one", file=sys.stderr)
            return EXIT_LOCKED
        os.chdir(batch.folder)  # where the units run, so that relative paths mean the same everywhere
    except OSError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return EXIT_WRITING_FAILED
    signals = Signals()
    code = guard(fork_scheduler(batch, signals), signals, parent)
    # A job's own state says that units failed; a parent reads so in their results.
    return 0 if code == EXIT_UNITS_FAILED and parent is not None else code


def lock(batch: Batch) -> bool:
    """Wait until no other runner works in the folder; a killed one needs a moment to be gone."""
    fd = os.open(batch.path("runner.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        except OSError:
            return True  # a file system without locks
        time.sleep(0.05)


def fork_scheduler(batch: Batch, signals: Signals) -> int:
    """Start the scheduler and return its id."""
    guard_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signals.forget()
        code = schedule(batch, guard_pid)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def schedule(batch: Batch, guard_pid: int) -> int:
    """Be the scheduler, and return its exit code."""
    adopt_orphans()
    signals = Signals()
    die_with_parent(guard_pid, signal.SIGTERM)
    try:
        scheduler = Scheduler(batch, signals)
        try:
            return scheduler.run()
        finally:
            end_descendants(GRACE_SECONDS)
            scheduler.usage.write()
    except ResultsError as error:
        with contextlib.suppress(OSError):
            print(f"the results of {batch.folder} cannot be written: {error}", file=sys.stderr, flush=True)
        return EXIT_WRITING_FAILED


def guard(scheduler_pid: int, signals: Signals, parent: int | None) -> int:
    """Wait for the scheduler, pass on signals that ask for the end, and leave no process behind."""
    while True:
        asked = is_ending(signals.wait(1.0)) or (parent is not None and os.getppid() != parent)
        pid, status = os.waitpid(scheduler_pid, os.WNOHANG)
        if pid:
            end_descendants(GRACE_SECONDS if os.WIFEXITED(status) else 0)
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if asked:
            end_descendants(GRACE_SECONDS)
            return EXIT_TERMINATED
