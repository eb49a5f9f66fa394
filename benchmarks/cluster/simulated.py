"""A simulated SLURM: `sbatch`, `squeue` and `scancel` that are found before the real ones, and jobs that only wait.

The commands are shell scripts on a folder; :meth:`SimulatedSlurm.step` starts and ends jobs, and writes what their
units and they themselves would have written.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STEP_S = 0.25

_SBATCH = """\
#!/bin/sh
# sbatch --parsable --job-name=NAME SCRIPT
exec 9>>{folder}/lock
flock 9
read -r last <{folder}/last
id=$((last + 1))
echo "$id" >{folder}/last
printf '%s\\t%s\\t%s\\n' "$id" "${{2#--job-name=}}" "$PWD" >>{folder}/submitted
echo "$id"
"""
_SQUEUE = """\
#!/bin/sh
# squeue --noheader --states=all --user=UID -O FORMAT
printf '.\\n' >>{folder}/squeues
exec cat {folder}/queue
"""
_SCANCEL = """\
#!/bin/sh
exit 0
"""


@dataclass
class SimulatedJob:
    """A job: its units run some at a time, each for the same time."""

    id: int
    name: str
    folder: Path
    count: int
    parallel: int
    started: float | None = None
    written: int = 0

    def due(self, now: float, unit_s: float) -> int:
        """Return how many units have ended by now."""
        if self.started is None:
            return 0
        return min(self.count, int((now - self.started) / unit_s) * self.parallel)


class SimulatedSlurm:
    """
    A cluster of so many slots, one for each unit that runs at a time.

    :param unit_s: how long a unit takes.
    """

    def __init__(self, folder: Path, *, slots: int, unit_s: float) -> None:
        self.folder = folder
        self.unit_s = unit_s
        self._free = slots
        self._jobs: dict[int, SimulatedJob] = {}
        self._pending: deque[SimulatedJob] = deque()
        self._running: list[SimulatedJob] = []
        self._read = 0
        self._lines: dict[int, str] = {}
        (folder / "last").write_text("0\n")
        for name in ("submitted", "queue", "squeues"):
            (folder / name).touch()
        commands = folder / "bin"
        commands.mkdir()
        for name, text in {"sbatch": _SBATCH, "squeue": _SQUEUE, "scancel": _SCANCEL}.items():
            (commands / name).write_text(text.format(folder=shlex.quote(str(folder))))
            (commands / name).chmod(0o755)

    @property
    def squeues(self) -> int:
        """How often `squeue` was called."""
        return (self.folder / "squeues").stat().st_size // 2

    @property
    def submitted(self) -> int:
        """How many jobs were submitted."""
        return int((self.folder / "last").read_text())

    def fill(self, jobs: list[SimulatedJob]) -> None:
        """Have jobs in the queue that were not submitted by a command."""
        with (self.folder / "submitted").open("a") as file:
            file.writelines(f"{job.id}\t{job.name}\t{job.folder}\n" for job in jobs)
        (self.folder / "last").write_text(f"{jobs[-1].id}\n")
        self.step()

    def step(self) -> None:
        """Take what was submitted, end what is over, start what has room."""
        now = time.monotonic()
        self._take_submitted()
        for job in list(self._running):
            self._write_results(job, now)
            if job.written == job.count:
                self._end(job)
        while self._pending and self._pending[0].parallel <= self._free:
            job = self._pending.popleft()
            job.started = now
            self._free -= job.parallel
            self._running.append(job)
            self._lines[job.id] = _line(job, "RUNNING", "None", "node1")
        part = self.folder / "queue.part"
        part.write_text("".join(self._lines.values()))
        part.replace(self.folder / "queue")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Step again and again until the block ends."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(STEP_S):
                self.step()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def on_path(self) -> Iterator[None]:
        """Have its commands found first."""
        before = os.environ.get("PATH", os.defpath)
        os.environ["PATH"] = f"{self.folder / 'bin'}:{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before

    def _take_submitted(self) -> None:
        with (self.folder / "submitted").open() as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                number, name, folder = line.rstrip("\n").split("\t")
                batch = json.loads(Path(folder, "batch.json").read_text())
                job = SimulatedJob(int(number), name, Path(folder), batch["count"], batch["parallel"])
                self._jobs[job.id] = job
                self._pending.append(job)
                self._lines[job.id] = _line(job, "PENDING", "Resources", "")

    def _write_results(self, job: SimulatedJob, now: float) -> None:
        due = job.due(now, self.unit_s)
        if due == job.written:
            return
        with (job.folder / "results.jsonl").open("a") as file:
            for index in range(job.written, due):
                result = {"index": index, "status": "done", "host": "node1", "seconds": self.unit_s}
                file.write(json.dumps(result) + "\n")
        job.written = due

    def _end(self, job: SimulatedJob) -> None:
        self._running.remove(job)
        self._free += job.parallel
        (job.folder / f"job-{job.id}.exit").write_text("0")
        self._lines[job.id] = _line(job, "COMPLETED", "None", "node1")


def _line(job: SimulatedJob, state: str, reason: str, node: str) -> str:
    """Return a line of `squeue`, with the fields that the program on the cluster asks for."""
    return f"{job.id}|{state}|{reason}|0|{node}|0|0:10|1:00:00|cpu={job.parallel},mem=4G|{job.name}\n"
