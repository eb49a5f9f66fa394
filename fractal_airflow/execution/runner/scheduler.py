"""The scheduler: keeps units going until each has a result."""

from __future__ import annotations

import collections
import os
import select
import signal
import time

from . import EXIT_TERMINATED, EXIT_UNITS_FAILED
from .batch import Batch
from .gpus import WARM_ENVIRONMENT, Gpus
from .processes import children, send_signal
from .results import Results, read_results
from .signals import Signals, is_ending
from .starting import OwnProcesses, StartError
from .units import Ended, result_of
from .usage import Usage
from .warm_start import WarmStart, note, script_of

SAME_SIGNAL_SECONDS = 0.3
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Scheduler:
    """Keeps ``parallel`` units of a batch going; those with a good result are not run again.

    :raises ResultsError: if results cannot be written.
    """

    def __init__(self, batch: Batch, signals: Signals) -> None:
        self.batch = batch
        self.signals = signals
        path = batch.path("results.jsonl")
        former = read_results(path)
        todo = [index for index in range(batch.count) if former.get(index, {}).get("status") != "done"]
        # What failed before is tried again in a process of its own: then it is not the warm start's doing.
        self.cold_only = {index for index in todo if index in former}
        self.pending = collections.deque(todo)
        self.failed: set[int] = set()
        self.results = Results(path)
        self.usage = Usage(batch.folder)
        self.gpus = Gpus(os.environ if batch.gpus else {}, max(1, min(batch.parallel, batch.count)))
        self.ending = False
        self.own = OwnProcesses(batch, signals)
        self.warm: WarmStart | None = None

    def run(self) -> int:
        """Run the units and return the exit code of the runner."""
        self.warm_up()
        self.fill()
        while self.pending or self.running_count():
            self.ending = is_ending(self.wait()) or self.ending
            if not self.ending:
                self.take_ended()
            if self.ending:
                self.results.sync()
                return EXIT_TERMINATED
            self.fill()
            self.usage.sample()
        self.results.sync()
        if self.warm:
            self.warm.end()
        return EXIT_UNITS_FAILED if self.failed else 0

    def warm_up(self) -> None:
        """Begin a warm start, if the task is made for it and it is worth it."""
        script = script_of(self.batch.command)
        warm = [index for index in self.pending if index not in self.cold_only]
        if self.batch.warm_start and script and len(warm) > 1:
            if self.batch.gpus:
                os.environ.update({**WARM_ENVIRONMENT, **os.environ})
            self.warm = WarmStart(self.batch, self.signals, script)

    def running_count(self) -> int:
        """Return how many units run."""
        return len(self.own.units) + (len(self.warm.running) if self.warm else 0)

    def fill(self) -> None:
        """Start units as long as there is room."""
        while self.pending and self.running_count() < self.batch.parallel:
            index = self.pending[0]
            if self.warm and index not in self.cold_only:
                if not self.warm.is_ready():
                    return
                self.pending.popleft()
                self.warm.start(index, self.gpus.take(index))
                continue
            self.pending.popleft()
            try:
                self.own.start(index, self.gpus.take(index))
            except StartError as error:
                self.add(Ended(index, problem=str(error)))

    def wait(self) -> bytes:
        """Wait for a signal or a report, and take the reports; return the signals."""
        fds = [self.signals.fd, *(self.warm.fds if self.warm else ())]
        seconds = (self.warm and self.warm.hold_seconds()) or 1.0
        readable = select.select(fds, [], [], min(1.0, seconds))[0]
        if self.warm:
            self.take_reports(self.warm, readable)
        return self.signals.read() if self.signals.fd in readable else b""

    def take_reports(self, warm: WarmStart, readable: list[int]) -> None:
        """Take what the generations report, and see whether they still live."""
        for ended in warm.receive(readable):
            if self.pending:
                warm.learn(ended)
            self.gpus.give_back(ended.unit)
            self.fill()  # the next unit runs while this one's result is written
            self.add(ended)
        lost = warm.take_lost()
        if warm.over:
            note(f"no warm start: {warm.over}")
            warm.close()
            self.warm = None
        if lost and not self.is_told_to_end():
            self.end_strays()
            self.pending.extendleft(sorted(lost, reverse=True))

    def end_strays(self) -> None:
        """End what is left of units whose generation died: it has come to this process."""
        while strays := {*children(os.getpid())} - self.known_children():
            for pid in strays:
                send_signal(pid, signal.SIGKILL)
            time.sleep(0.005)
            self.take_ended()

    def known_children(self) -> set[int]:
        """Return the children that this process has started and still needs."""
        return {*self.own.units, *([self.warm.pid] if self.warm else ())}

    def take_ended(self) -> None:
        """Write the results of units that had a process of their own."""
        for ended in self.own.take_ended():
            self.add(ended)

    def add(self, ended: Ended) -> None:
        """Write the result of a unit."""
        self.gpus.give_back(ended.unit)
        if was_asked_to_end(ended) and self.is_told_to_end():
            return  # it has no result then, and runs again after a requeue
        result = result_of(self.batch, ended)
        if "error" in result:
            self.failed.add(ended.unit)
        self.usage.saw(ended.measures.get("max_rss_mb", 0.0))
        self.results.add(ended.unit, result)

    def is_told_to_end(self) -> bool:
        """Tell whether a signal that ended another process of this job comes to this one, too.

        SLURM sends signals to all processes of a job, one after another.
        """
        deadline = time.monotonic() + SAME_SIGNAL_SECONDS
        while not self.ending and (left := deadline - time.monotonic()) > 0:
            self.ending = is_ending(self.signals.wait(left))
        return self.ending


def was_asked_to_end(ended: Ended) -> bool:
    """Tell whether a unit was ended by a signal that asks for the end."""
    return os.WIFSIGNALED(ended.status) and os.WTERMSIG(ended.status) in _ENDING_SIGNALS
