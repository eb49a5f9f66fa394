"""Commands on this machine, where the Airflow worker is itself a submit host: as its own user, or another."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.execution.local import unit_environment
from fractal_airflow.execution.slurm.framing import after_marker, encode_argument, marked, new_marker
from fractal_airflow.execution.slurm.transport import (
    AT_ONCE,
    DEADLINE_S,
    AsyncTransport,
    Completed,
    Transport,
)

WHERE = "this machine"

# How long a command that passed its deadline has to put things in order.
_GRACE_S = 2.0
_NO_PROGRAM = (errno.ENOENT, errno.ENOTDIR)
_NOT_EXECUTABLE = (errno.EACCES, errno.ENOEXEC, errno.EISDIR)


class LocalTransport(Transport):
    """
    Runs commands on this machine.

    :param run_as_user: another user, as whom ``sudo`` runs them; it must not ask for a password.
    """

    def __init__(self, *, run_as_user: str | None = None) -> None:
        self.where = WHERE
        self._command = _Command(run_as_user)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Completed:
        """Run a command until its end (see :meth:`Transport.run`); past the deadline it is ended."""
        return self.run_until(time.monotonic() + deadline_s, argv, stdin)

    def run_until(self, end: float, argv: Sequence[str], stdin: bytes = b"") -> Completed:
        """Run a command that has to end before a time of the monotonic clock."""
        marker = new_marker()
        try:
            process = subprocess.Popen(self._command.argv(argv, marker), **_surroundings())
        except OSError as error:
            return self._command.not_started(error, argv)
        try:
            stdout, stderr = process.communicate(stdin, timeout=max(0.0, end - time.monotonic()))
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ClusterUnreachableError(f"{argv[0]} on {WHERE} did not end in time") from None
            raise
        return self._command.completed(process.returncode, stdout, stderr, marker)

    def close(self) -> None:
        """Do nothing: there is no connection."""


class AsyncLocalTransport(AsyncTransport):
    """
    Runs commands on this machine without blocking an event loop (see :class:`LocalTransport`).

    A call that nobody waits for any more goes on to its end.
    """

    def __init__(self, *, run_as_user: str | None = None) -> None:
        self.where = WHERE
        self._blocking = LocalTransport(run_as_user=run_as_user)
        self._threads: ThreadPoolExecutor | None = None

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S
    ) -> Completed:
        """Run a command until its end (see :meth:`Transport.run`); past the deadline it is ended."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="slurm")
        end = time.monotonic() + deadline_s
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._blocking.run_until, end, list(argv), stdin)

    async def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None


class _Command:
    """How a command is run, perhaps as another user, and what its end means."""

    def __init__(self, run_as_user: str | None) -> None:
        self._user = run_as_user

    def argv(self, argv: Sequence[str], marker: str) -> list[bytes]:
        if self._user is not None:
            # The marker tells a command that failed from a sudo that never ran it.
            argv = ["sudo", "-n", "-H", "-u", self._user, "--", *marked(argv, marker)]
        return [encode_argument(argument) for argument in argv]

    def completed(self, code: int, stdout: bytes, stderr: bytes, marker: str) -> Completed:
        code = code if code >= 0 else 128 - code
        if self._user is None:
            return Completed(code, stdout, stderr)
        own_stdout, own_stderr = after_marker(stdout, marker), after_marker(stderr, marker)
        if own_stdout is None or own_stderr is None:
            raise self._no_sudo(Completed(code, stdout, stderr).complaint)
        return Completed(code, own_stdout, own_stderr)

    def not_started(self, error: OSError, argv: Sequence[str]) -> Completed:
        """Return what a shell would: there is no such program; or raise what is wrong with this machine."""
        if error.errno == errno.E2BIG:
            raise ValueError(f"the arguments of {argv[0]} are too long: give it what is long as its input")
        if error.errno not in (*_NO_PROGRAM, *_NOT_EXECUTABLE):
            raise ClusterUnreachableError(f"{WHERE} cannot start {argv[0]}: {error.strerror}") from error
        if self._user is not None:
            raise self._no_sudo(f"sudo: {error.strerror}")
        code = 127 if error.errno in _NO_PROGRAM else 126
        return Completed(code, b"", f"{argv[0]}: {error.strerror}\n".encode())

    def _no_sudo(self, complaint: str) -> ResourceError:
        me = _own_name()
        return ResourceError(
            f"{me} cannot run commands as the user {self._user!r} on {WHERE}: {complaint}. "
            f"Install sudo, and let {me} do it without a password, with a line in a file of /etc/sudoers.d: "
            f"{me} ALL=({self._user}) NOPASSWD: ALL"
        )


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user may have no name
        return f"#{os.geteuid()}"


def _surroundings() -> dict[str, Any]:
    return {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": unit_environment(os.environ),  # a job inherits the environment of its submission
        "cwd": "/",  # another user may not enter the folder of this process
        "start_new_session": True,  # so that all of it can be ended, and Ctrl-C is for Airflow
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    _signal_group(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)  # what belongs to root stays, but nothing waits for it


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to all of a command; as another user's it may be out of our reach."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
