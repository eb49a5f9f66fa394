"""Running batches in tests: one call that opens an attempt, runs it, and says what came of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.run_folder import Attempt, batch_folder, open_attempt
from fractal_airflow.execution.units import Outcome, Work

TASKS = Path(__file__).parent / "tasks"
UNIT_TASK = (sys.executable, str(TASKS / "unit_task.py"))


@dataclass
class Ran:
    """A batch that was run."""

    attempt: Attempt
    outcomes: list[Outcome]

    @property
    def statuses(self) -> list[str]:
        return [outcome.status for outcome in self.outcomes]

    def log(self, index: int) -> str:
        return (self.attempt.folder / f"{index}-log.txt").read_text(encoding="utf-8")

    @property
    def runner_log(self) -> str:
        return (self.attempt.folder / "runner-log.txt").read_text(encoding="utf-8")

    def error(self, index: int) -> str:
        error = self.outcomes[index].error
        assert error is not None
        return f"{error.kind}: {error.message}"


def open_batch(work_dir: Path, work: Work, generation: str = "first") -> Attempt:
    return open_attempt(batch_folder(work_dir / "run", 0, work), work, generation)


def run_batch(
    work_dir: Path,
    units: list[dict[str, Any]],
    *,
    command: Sequence[str] = UNIT_TASK,
    parallel: int = 1,
    warm_start: bool = True,
    generation: str = "first",
) -> Ran:
    work = Work(tuple(command), units, parallel, warm_start)
    attempt = open_batch(work_dir, work, generation)
    outcomes = LocalResource(work_dir).run_attempt(work, attempt, log=logging.getLogger("batch"))
    return Ran(attempt, outcomes)


def script(folder: Path, text: str) -> tuple[str, str]:
    """Write a Python script and return the command that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    return (sys.executable, str(path))


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def starts(path: Path) -> int:
    """How often units with this ``started`` file were started."""
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
