"""Starting units as processes of their own."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Mapping

from .batch import Batch
from .processes import die_with_parent, reap, send_signal
from .signals import Signals
from .units import Ended, Unit


class StartError(Exception):
    """A unit's command cannot be started."""


class OwnProcesses:
    """The units that run as a process each, by its id."""

    def __init__(self, batch: Batch, signals: Signals) -> None:
        self.batch = batch
        self.signals = signals
        self.units: dict[int, Unit] = {}

    def start(self, index: int, variables: Mapping[str, str]) -> None:
        """Start a unit.

        :param variables: what its environment has besides this process's own.
        :raises StartError: if its command or its log is at fault.
        """
        try:
            log_fd, log_start = self.batch.prepare(index)
            try:
                unit = Unit(index, log_start)
                pid = spawn(self.signals, self.batch.arguments(index), self.batch.folder, log_fd, variables)
            finally:
                os.close(log_fd)
        except OSError as error:
            raise StartError(f"the unit cannot be started: {error}") from error
        self.units[pid] = unit

    def take_ended(self) -> Iterator[Ended]:
        """Reap the children of this process, and yield the units among them."""
        for pid, status, usage in reap():
            unit = self.units.pop(pid, None)
            if unit is not None:  # else a process that a unit left behind
                send_signal(-pid, signal.SIGTERM)  # what the unit left running in the background
                yield unit.ended(status, usage)


def spawn(signals: Signals, argv: list[str], folder: str, log_fd: int, variables: Mapping[str, str]) -> int:
    """Start a command as a process and return its id.

    :raises StartError: if the command does not exist or cannot be executed.
    """
    program = find_program(argv[0])
    parent = os.getpid()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become_unit(signals, parent, folder, log_fd)
            os.execve(program, argv, {**os.environ, **variables})
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) else 0
            os.write(error_write, f"{number} {error}".encode())
        os._exit(127)
    os.close(error_write)
    with os.fdopen(error_read, "rb") as file:
        problem = file.read().decode()
    if problem:
        os.waitpid(pid, 0)
        raise StartError(explain_exec_error(argv[0], *problem.split(" ", 1)))
    return pid


def become_unit(signals: Signals, parent: int, folder: str, log_fd: int) -> None:
    """In a child: a session of its own, no input, its output in its log, and an end with its parent."""
    os.setsid()
    signals.forget()
    die_with_parent(parent, signal.SIGKILL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.chdir(folder)


def find_program(name: str) -> str:
    """Return the path of a command.

    :raises StartError: if there is none, or it cannot be executed.
    """
    folders = [""] if os.sep in name else os.get_exec_path()
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    if os.path.isdir(name):
        raise StartError(f"command {name!r} is a folder, not a program")
    if os.path.exists(name) and os.sep in name:
        raise StartError(f"command {name!r} is not executable: give it execute permission (chmod +x)")
    where = "does not exist" if os.sep in name else "is not found in PATH"
    raise StartError(f"command {name!r} {where}: is its environment installed on {os.uname().nodename}?")


def explain_exec_error(name: str, number: str, message: str) -> str:
    """Say why a file that is there and executable did not start."""
    if int(number) == errno.ENOENT:
        return f"command {name!r} cannot be started: the interpreter that its first line names does not exist"
    if int(number) == errno.ENOEXEC:
        return f"command {name!r} cannot be started: it is neither a program nor a script with a '#!' line"
    return f"command {name!r} cannot be started: {message}"
