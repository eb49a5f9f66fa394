"""The scheduler's side of a warm start: which generation forks the next unit, and what they report."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from . import GRACE_SECONDS
from .batch import Batch
from .channel import End, make_channel
from .generation import MODULES_FILE, start_first_generation
from .signals import Signals
from .starting import StartError, find_program
from .units import Ended

HOLD_SECONDS = 2.0  # how long units wait at least for the modules that the first one was seen to load
MOST_TRIES = 3  # to grow a second generation, each time without the module that was to blame


def script_of(command: list[str]) -> str | None:
    """Return the script of ``PYTHON SCRIPT.py ...`` if PYTHON is the one that runs this program."""
    if len(command) < 2 or not command[1].endswith(".py") or not os.path.isfile(command[1]):
        return None
    try:
        program = os.path.abspath(find_program(command[0]))
        mine = os.path.abspath(sys.executable)
        same = os.path.dirname(program) == os.path.dirname(mine) and os.path.samefile(program, mine)
    except (OSError, StartError):
        return None
    return command[1] if same else None


class WarmStart:
    """The generations of a batch, and the units that they run.

    :ivar over: why no units can be forked any more; None while they can.
    """

    def __init__(self, batch: Batch, signals: Signals, script: str) -> None:
        self._modules_path = batch.path(MODULES_FILE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._modules_path)
        channels = [make_channel(), make_channel()]
        self._ends = [mine for mine, _ in channels]
        theirs = (channels[0][1], channels[1][1])
        self.pid = start_first_generation(batch, script, signals, theirs)
        self.running: dict[int, int] = {}  # the generation of each unit
        self.over: str | None = None
        self._ready = [False, False]
        self._avoid: list[str] = []
        self._tries = 0
        self._hold_until = 0.0

    @property
    def fds(self) -> list[int]:
        """Where reports come from."""
        return [end.fd for end in self._ends]

    def hold_seconds(self) -> float:
        """Return how long units may still have to wait for the second generation."""
        return max(0.0, self._hold_until - time.monotonic())

    def is_ready(self) -> bool:
        """Tell whether a unit can be forked now; else it is better to wait."""
        return not self.over and (self._ready[1] or (self._ready[0] and not self.hold_seconds()))

    def start(self, index: int, variables: Mapping[str, str]) -> None:
        """Have a unit forked.

        :param variables: what its environment has besides this process's own.
        """
        generation = 1 if self._ready[1] else 0
        self.running[index] = generation
        command = {"run": index, "learn": self._tries == 0, "variables": dict(variables)}
        self._ends[generation].send(command)

    def learn(self, first: Ended) -> None:
        """Have the second generation grown, once a unit has told which modules it loaded."""
        if self._tries or first.problem or first.status or not has_content(self._modules_path):
            return
        # Importing them takes no longer than the unit did that loaded them: waiting is the shorter way.
        self._hold_until = time.monotonic() + max(HOLD_SECONDS, 2 * first.measures["seconds"])
        self._grow()

    def receive(self, readable: list[int]) -> Iterator[Ended]:
        """Take the reports that have come; yield the units that have ended.

        :param readable: the file descriptors that have some.
        """
        for generation, end in enumerate(self._ends):
            if end.fd in readable and not self.over:
                reports = end.receive()
                if reports is None:
                    self.over = "its process died"
                for report in reports or ():
                    yield from self._take(generation, report)
        if self.over:
            for end in self._ends:
                yield from self._last_words(end)

    def take_lost(self) -> list[int]:
        """Return the units whose generation has died."""
        lost = [
            index for index, generation in self.running.items() if self.over or not self._ready[generation]
        ]
        for index in lost:
            del self.running[index]
        return lost

    def _take(self, generation: int, report: dict[str, Any]) -> Iterator[Ended]:
        event = report["event"]
        if event == "ended":
            yield from self._take_unit(report)
        elif event == "ready":
            self._ready[generation] = True
        elif event == "unfit" and generation == 0:
            self.over = report["why"]
        elif event == "unfit":
            note(f"the learned imports are not used: {report['why']}")
            self._grow_without(report["blame"])
        elif event == "successor died":
            note("the process with the learned imports died; going on with the one without")
            self._ready[1] = False
            self._hold_until = 0.0
            yield from self._last_words(self._ends[1])

    def _take_unit(self, report: dict[str, Any]) -> Iterator[Ended]:
        ended = Ended(*report["end"])
        if self.running.pop(ended.unit, None) is not None:
            yield ended

    def _last_words(self, end: End) -> Iterator[Ended]:
        """Take what a generation reported before it died: units that ended need not run again."""
        while select.select([end.fd], [], [], 0)[0]:
            reports = end.receive()
            if reports is None:
                return
            for report in reports:
                if report["event"] == "ended":
                    yield from self._take_unit(report)

    def _grow_without(self, blame: str | None) -> None:
        """Try once more without the module that was to blame, or go on with the first generation."""
        if blame is None or self._tries >= MOST_TRIES:
            self._hold_until = 0.0
            return
        self._avoid.append(blame)
        self._grow()

    def _grow(self) -> None:
        self._tries += 1
        self._ends[0].send({"grow": True, "avoid": self._avoid})

    def close(self) -> None:
        """Ask the generations to end."""
        for end in self._ends:
            end.close()

    def end(self) -> None:
        """Let the generations run their exit handlers."""
        self.close()
        deadline = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.002)


def has_content(path: str) -> bool:
    """Tell whether a file lists any module."""
    try:
        return os.path.getsize(path) > len("[]")
    except OSError:
        return False


def note(text: str) -> None:
    """Say something about the runner itself, in its own log."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
