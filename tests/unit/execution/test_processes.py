"""No unit, and nothing that a unit started, outlives the runner or its parent, however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fractal_airflow.execution.archive import write_runner
from fractal_airflow.execution.run_folder import Attempt
from fractal_airflow.execution.runner.processes import children, descendants, send_signal
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, lives, open_batch, run_batch, starts, wait_until

WORKER = """
import json, logging, sys
from pathlib import Path
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.run_folder import Attempt
from fractal_airflow.execution.runner.processes import children, descendants, send_signal
from fractal_airflow.execution.units import Work
work_dir, folder, work = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
LocalResource(work_dir).run_attempt(Work(**work), Attempt(folder, len(work["units"])), log=logging.getLogger())
"""


@dataclass
class Running:
    """A worker whose batch has ended one unit, and is in the middle of the next ones."""

    folder: Path
    units: list[dict[str, object]]
    attempt: Attempt
    worker: subprocess.Popen[bytes]
    parallel: int
    warm_start: bool

    @property
    def guard(self) -> int:
        return children(self.worker.pid)[0]

    @property
    def scheduler(self) -> int:
        return children(self.guard)[0]

    def wait_for_daemons(self) -> list[int]:
        """The ids of everything that must not be left behind: units, and their own daemons."""
        for index in range(1, 1 + self.parallel):
            wait_until(
                lambda index=index: starts(self.folder / f"daemon-{index}") == 1 and self.pid("daemon", index)
            )
        names = ("started", "daemon")
        return [self.pid(name, index) for name in names for index in range(1, 1 + self.parallel)]

    def pid(self, name: str, index: int) -> int:
        return int((self.folder / f"{name}-{index}").read_text().split()[-1])

    def all_processes(self) -> list[int]:
        return [self.worker.pid, *descendants(self.worker.pid)]


@pytest.fixture(params=[(True, 1), (True, 2), (False, 2)], ids=["warm", "warm-2", "cold-2"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    warm_start, parallel = request.param
    units: list[dict[str, object]] = [
        {"started": str(tmp_path / f"started-{index}"), "output": {"image_list_removals": []}}
        for index in range(5)
    ]
    for index in (1, 2):
        units[index] |= {"daemon": str(tmp_path / f"daemon-{index}"), "wait_for": str(tmp_path / "gate")}
    work = Work(UNIT_TASK, units, parallel, warm_start)
    attempt = open_batch(tmp_path, work)
    arguments = json.dumps(
        {"command": UNIT_TASK, "units": units, "parallel": parallel, "warm_start": warm_start}
    )
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), str(attempt.folder), arguments])
    found = Running(tmp_path, units, attempt, worker, parallel, warm_start)
    yield found
    for pid in found.all_processes():
        send_signal(pid, signal.SIGKILL)
    worker.wait()


def assert_gone(pids: list[int], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)


def assert_retry_runs_only_what_is_missing(running: Running) -> None:
    (running.folder / "gate").touch()
    ran = run_batch(running.folder, running.units, parallel=running.parallel, warm_start=running.warm_start)
    assert ran.attempt.folder == running.attempt.folder
    assert ran.statuses == ["done"] * 5
    assert starts(running.folder / "started-0") == 1
    assert [starts(running.folder / f"started-{index}") for index in range(1, 5)] == (
        [2, 2, 1, 1] if running.parallel == 2 else [2, 1, 1, 1]
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_worker_ends_everything(running: Running, number: int) -> None:
    pids = [*running.wait_for_daemons(), *running.all_processes()]
    running.worker.send_signal(number)
    running.worker.wait()
    assert_gone(pids)
    assert_retry_runs_only_what_is_missing(running)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("victim", ["guard", "scheduler"])
def test_the_end_of_the_runner_ends_everything(running: Running, victim: str, number: int) -> None:
    pids = [*running.wait_for_daemons(), *descendants(running.worker.pid)]
    os.kill(getattr(running, victim), number)
    assert_gone(pids)
    assert running.worker.wait(10) == 0
    assert_retry_runs_only_what_is_missing(running)


def test_the_end_of_the_batch_ends_what_units_left_behind(running: Running) -> None:
    pids = running.wait_for_daemons()
    (running.folder / "gate").touch()
    assert running.worker.wait(20) == 0
    assert_gone(pids, 0.5)
    assert starts(running.folder / "started-4") == 1


def test_what_a_unit_leaves_running_is_asked_to_end_with_it(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
if "second" in open(sys.argv[2]).read():
    while not os.path.exists({str(tmp_path / "gate")!r}):
        time.sleep(0.01)
    sys.exit()
pid = os.fork()
if pid == 0:
    time.sleep(60)
open({str(tmp_path / "pid")!r}, "w").write(str(pid))
"""
    command = (sys.executable, "-c", code)
    work = Work(command, [{}, {"second": True}])
    attempt = open_batch(tmp_path, work)
    process = subprocess.Popen([sys.executable, str(write_runner(attempt.folder)), str(attempt.folder)])
    try:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        assert_gone([int((tmp_path / "pid").read_text())])
        assert process.poll() is None
    finally:
        (tmp_path / "gate").touch()
        process.wait()


def test_a_runner_without_a_parent_to_watch_outlives_its_starter(tmp_path: Path) -> None:
    work = Work(UNIT_TASK, [{"wait_for": str(tmp_path / "gate"), "output": {}}] * 2)
    attempt = open_batch(tmp_path, work)
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    subprocess.run(
        [sys.executable, "-c", code, sys.executable, str(write_runner(attempt.folder)), str(attempt.folder)],
        check=True,
    )
    (tmp_path / "gate").touch()
    wait_until(lambda: len(attempt.results()) == 2)
