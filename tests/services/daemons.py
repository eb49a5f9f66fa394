"""Programs that serve in the background: started, frozen, killed, and stopped with all that they started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOG_TAIL = 4000
_libc = ctypes.CDLL(None)


class DaemonError(RuntimeError):
    """A program did not come up; the end of its log is in the message."""


class Daemon:
    """One program, which can be started again after it was stopped or killed."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """
        :param log: the file to which its output is added.
        :param environment: all of its environment; default: that of this process.
        :param user: as whom it runs.
        :param folder: where it runs; default: where its log is.
        """
        self.argv = list(argv)
        self.log = log
        self.environment = None if environment is None else dict(environment)
        self.user = user
        self.folder = folder or log.parent
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.argv[0]} was not started"
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, as the leader of a session of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=_end_with_parent,
            )

    def wait_until(self, ready: Callable[[], object], *, timeout_s: float = 30) -> None:
        """
        Wait until it serves.

        :raises DaemonError: where it ends, or does not serve in time.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.is_running() or time.monotonic() > deadline:
                raise DaemonError(f"{self.argv[0]} does not serve:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-_LOG_TAIL:] if self.log.exists() else ""

    def freeze(self) -> None:
        """Stop it, and all that it started, in the middle of what it does; it answers nobody."""
        send_all(signal.SIGSTOP, self.family())

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        send_all(signal.SIGCONT, self.family())

    def family(self) -> list[int]:
        """Return the processes of it and of all that it started, those whose parent has ended included."""
        if self.process is None:
            return []
        started = [self.pid, *descendants(self.pid)] if self.is_running() else []
        return sorted({*started, *session_members(self.pid)})

    def stop(self, *, grace_s: float = 5) -> None:
        """End it politely, and after a while for good."""
        if not self.is_running():
            return
        assert self.process is not None
        self.thaw()
        self.process.terminate()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """Kill it with all processes that it started, also those that it left when it ended."""
        if self.process is not None:
            kill_all(self.family())
            self.process.wait()


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes; those that have ended before are none."""
    send_all(signal.SIGKILL, pids)


def send_all(number: int, pids: Iterable[int]) -> None:
    """Send a signal to processes; those that have ended before are none."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def processes() -> dict[int, int]:
    """Return the parent of every process, by its id; those that ended and wait for their parent are none."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The name, in parentheses, may hold anything.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                found[int(entry.name)] = int(fields[1])
    return found


def descendants(*pids: int) -> list[int]:
    """Return all that processes have started, directly or not."""
    parents = processes()
    family = set(pids)
    before = 0
    while len(family) > before:
        before = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    return sorted(family - set(pids))


def session_members(session: int) -> list[int]:
    """Return the processes of a session, those whose parent has ended included."""
    members = []
    for pid in processes():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                members.append(pid)
    return members


def with_variable(name: str, value: str) -> list[int]:
    """Return the processes that were started with a variable of the environment."""
    line = f"{name}={value}".encode()
    found = []
    for pid in processes():
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if line in environment.split(b"\0"):
            found.append(pid)
    return found


def command_line(pid: int) -> str:
    """Return a process's command line; nothing where it has ended."""
    try:
        text = Path("/proc", str(pid), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
