"""Generations: processes that have imported what units need, and fork them.

The first generation imports what the script itself imports. The second is forked from it, and also imports
what the first unit was seen to load on its way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

from .batch import Batch
from .channel import End
from .main_module import finish, new_module, own_exit_handlers_only, reseed, run_code
from .preload import UnfitError, import_learned, import_script, write_learned
from .processes import close_fds, die_with_parent, fork, open_fds, reap, send_signal
from .signals import Signals, is_ending
from .starting import become_unit
from .units import Ended, Unit

EXIT_UNFIT = 3
MODULES_FILE = "modules.json"


class Generation:
    """One generation.

    :param channel: its end of the channel to the scheduler.
    :param successor_channel: the same of the generation that may be forked from this one.
    """

    def __init__(self, batch: Batch, script: str, channel: End, successor_channel: End | None) -> None:
        self.batch = batch
        self.script = script
        self.channel = channel
        self.successor_channel = successor_channel
        self.signals = Signals()
        self.units: dict[int, Unit] = {}
        self.successor = 0
        self.code: CodeType

    def live(self, prepare: Callable[[], CodeType]) -> NoReturn:
        """Import with ``prepare``, serve, and leave with the exit handlers of what was imported."""
        try:
            self.code = prepare()
        except UnfitError as error:
            self.channel.send({"event": "unfit", "why": str(error), "blame": error.blame})
            os._exit(EXIT_UNFIT)
        try:
            self.modules = set(sys.modules)
            self.serve()
            atexit._run_exitfuncs()
        finally:
            os._exit(0)

    def serve(self) -> None:
        """Fork units as the scheduler asks, until it closes the channel or a signal asks for the end."""
        self.channel.send({"event": "ready"})
        ending = False
        while not ending or self.units:  # units get the same signal, and their time to end
            readable = select.select([self.signals.fd, self.channel.fd], [], [])[0]
            if self.signals.fd in readable:
                ending = is_ending(self.signals.read()) or ending
                self.take_ended()
            if self.channel.fd in readable:
                commands = self.channel.receive()
                if commands is None:
                    break
                for command in commands:
                    self.obey(command)
        if self.successor:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.successor, 0)

    def obey(self, command: dict[str, Any]) -> None:
        """Do what the scheduler asks: run a unit, or grow the next generation."""
        if "run" in command:
            self.start(command["run"], command["learn"], command["variables"])
            return
        parent = os.getpid()
        self.successor = fork()
        if self.successor == 0:
            grow_into_second(self, parent, command["avoid"])

    def start(self, index: int, learn: bool, variables: dict[str, str]) -> None:
        """Fork a unit.

        :param variables: what its environment has besides this process's own.
        """
        try:
            log_fd, log_start = self.batch.prepare(index)
        except OSError as error:
            problem = f"the unit cannot be started: {error}"
            self.channel.send({"event": "ended", "end": Ended(index, problem=problem)})
            return
        unit = Unit(index, log_start)
        parent = os.getpid()
        pid = fork()
        if pid == 0:
            code = 1
            try:
                become_unit(self.signals, parent, self.batch.folder, log_fd)
                close_fds([log_fd])
                for channel in (self.channel, self.successor_channel):
                    if channel:
                        channel.close()
                os.environ.update(variables)
                code = self.run_as_main(index, learn)
            finally:
                os._exit(code)
        os.close(log_fd)
        self.units[pid] = unit

    def run_as_main(self, index: int, learn: bool) -> int:
        """In a unit's process: be ``PYTHON SCRIPT.py`` from here on; return the exit code."""
        sys.argv = self.batch.arguments(index)[1:]
        own_exit_handlers_only()
        reseed()
        gc.enable()
        main = new_module("__main__", self.script)
        code = run_code(self.code, main)
        if learn and code == 0:
            with contextlib.suppress(OSError):
                write_learned(self.batch.path(MODULES_FILE), self.modules)
        return finish(code, main)

    def take_ended(self) -> None:
        """Report the units that have ended."""
        for pid, status, usage in reap():
            if pid == self.successor:
                self.successor = 0
                if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_UNFIT):
                    self.channel.send({"event": "successor died"})
            unit = self.units.pop(pid, None)
            if unit is not None:  # else a process that a module started when it was imported
                send_signal(-pid, signal.SIGTERM)  # what the unit left running in the background
                self.channel.send({"event": "ended", "end": unit.ended(status, usage)})


def start_first_generation(batch: Batch, script: str, signals: Signals, ends: tuple[End, End]) -> int:
    """Fork the first generation from the scheduler and return its id.

    :param ends: the channels' ends of both generations.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        be_first_generation(batch, script, signals, parent, ends)
    for end in ends:
        end.close()
    return pid


def be_first_generation(
    batch: Batch, script: str, signals: Signals, parent: int, ends: tuple[End, End]
) -> NoReturn:
    """In a fork of the scheduler: become the first generation."""
    signals.forget()
    die_with_parent(parent, signal.SIGKILL)
    close_fds({*open_fds()} - {0, 1, 2, *ends[0].fds, *ends[1].fds})
    Generation(batch, script, *ends).live(lambda: import_script(script))


def grow_into_second(first: Generation, parent: int, avoid: list[str]) -> NoReturn:
    """In a fork of the first generation: become the second."""
    first.signals.forget()
    die_with_parent(parent, signal.SIGKILL)
    own_exit_handlers_only()
    first.channel.close()
    assert first.successor_channel is not None
    second = Generation(first.batch, first.script, first.successor_channel, None)

    def prepare() -> CodeType:
        import_learned(first.batch.path(MODULES_FILE), avoid)
        return first.code

    second.live(prepare)
