"""What the demo's commands share: their errors, how they end, and that one runs at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

FAILED = 1
INTERRUPTED = 130
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why, and what to do or where to look."""


def run_command(action: Callable[[], None]) -> int:
    """Run a command of the demo and return its exit code; whatever ends it, it cleans up behind itself."""
    for number in INTERRUPTIONS:
        signal.signal(number, _interrupt)
    try:
        action()
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return FAILED
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        print(f"\nThe demo failed: exit code {error.returncode} of {command}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    return 0


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """
    Hold a demo folder; the lock ends with the process, however that ends.

    :raises DemoError: where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            message = f"another `make demo` or `make ui` runs in {folder}: stop it with Ctrl-C first"
            raise DemoError(message) from None
        yield


def _interrupt(*_: object) -> None:
    """Take a termination like Ctrl-C."""
    raise KeyboardInterrupt
