from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.local import LocalResource, unit_environment
from fractal_airflow.execution.resource import BatchCall, JobsRunnerConfig
from fractal_airflow.execution.units import Work
from tests.services.disks import run_on_read_only_disk, run_on_tiny_disk
from tests.unit.execution.batches import UNIT_TASK, open_batch, run_batch, starts, wait_until

LOG = logging.getLogger("batch")


def test_airflows_variables_do_not_reach_the_units() -> None:
    environment = {
        "HOME": "/home/fractal",
        "MY_AIRFLOW": "kept",
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "AIRFLOW_CONN_DB": "secret",
        "_AIRFLOW_FORK_EXEC": "1",
        "__AIRFLOW_SUPERVISOR_FD": "7",
    }
    assert unit_environment(environment) == {"HOME": "/home/fractal", "MY_AIRFLOW": "kept"}


def test_a_failed_unit_shows_the_end_of_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_batch(tmp_path, [{"output": {}}, {"raise": "no nuclei here"}])
    messages = [record.getMessage() for record in caplog.records if record.name == "batch"]
    assert any(
        message.startswith("Unit 1 failed: the task ended with exit code 1\nLast lines of ")
        and message.endswith("ValueError: no nuclei here")
        for message in messages
    )
    assert messages[-1] == "2/2 units, 1 failed"


def test_a_retry_runs_only_what_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = tmp_path / "gate"
    command = (sys.executable, "-c", f"import os, sys; sys.exit(not os.path.exists({str(gate)!r}))")
    run_batch(tmp_path, [{}, {"n": 1}], command=command)
    gate.touch()
    with caplog.at_level(logging.INFO):
        ran = run_batch(tmp_path, [{}, {"n": 1}], command=command)
    assert ran.attempt.adopted
    assert ran.statuses == ["done", "done"]


def slots_of_two_batches(work_dir: Path, slots: int, log: logging.Logger) -> list[float]:
    """Run two batches at once; return when each unit began, relative to the end of the first one."""
    config = JobsRunnerConfig(parallel_tasks_per_job=slots)
    command = (sys.executable, "-c", "import time; time.sleep(0.5)")
    spans: list[tuple[float, float]] = []

    def run(number: int) -> None:
        work = Work(command, [{"number": number}])
        attempt = open_batch(work_dir / str(number), work)
        (outcome,) = LocalResource(work_dir, config).run_attempt(work, attempt, log=log)
        assert outcome.started_at is not None
        assert outcome.seconds is not None
        spans.append((outcome.started_at, outcome.started_at + outcome.seconds))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first_end = min(end for _, end in spans)
    return sorted(begin - first_end for begin, _ in spans)


def test_batches_wait_for_a_slot_of_this_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _, second = slots_of_two_batches(tmp_path, 1, LOG)
    assert second > 0
    assert "Waiting for one of the 1 slots of this machine" in caplog.text


def test_as_many_batches_as_there_are_slots_run_at_once(tmp_path: Path) -> None:
    _, second = slots_of_two_batches(tmp_path, 2, LOG)
    assert second < 0


def test_slots_of_killed_workers_are_free_again(tmp_path: Path) -> None:
    (tmp_path / ".slots").mkdir()
    holder = (
        "import fcntl, os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)"
    )
    lock = tmp_path / ".slots" / "0.lock"
    process = subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(BlockingIOError):
        fcntl.flock(os.open(lock, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.kill()
    process.communicate()
    work = Work(UNIT_TASK, [{}])
    resource = LocalResource(tmp_path, JobsRunnerConfig(parallel_tasks_per_job=1))
    (outcome,) = resource.run_attempt(work, open_batch(tmp_path, work), log=LOG)
    assert outcome.status == "done"


def test_a_python_that_cannot_run_the_runner_does_not_stop_the_units(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$1" in *runner.pyz) exit 5;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ran = run_batch(tmp_path, [{"output": {}}] * 2, command=(str(python), UNIT_TASK[1]))
    assert ran.statuses == ["done", "done"]


def test_cancelling_ends_the_units(tmp_path: Path) -> None:
    work = Work(
        UNIT_TASK, [{"started": str(tmp_path / f"{index}"), "wait_for": "/never"} for index in range(3)]
    )
    resource = LocalResource(tmp_path)
    attempt = open_batch(tmp_path, work)
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.extend(o.status for o in resource.run_attempt(work, attempt, log=LOG))
    )
    thread.start()
    wait_until((tmp_path / "0").exists)
    began = time.monotonic()
    resource.cancel()
    thread.join()
    assert time.monotonic() - began < 4
    assert found == ["failed"] * 3
    assert not (tmp_path / "1").exists()


def test_cancelling_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    LocalResource(tmp_path).cancel()


def test_a_work_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    work = Work(UNIT_TASK, [{}])
    attempt = open_batch(tmp_path, work)
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file cannot be written: .*set another work_dir"):
        LocalResource(tmp_path / "file").run_attempt(work, attempt, log=LOG)


RUN = """
import logging, sys
from pathlib import Path
from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, open_batch
folder, trouble = Path(sys.argv[1]), sys.argv[2]
units = [{}, {"output": "x" * 20_000, trouble: str(folder / "large")}, {"started": str(folder / "third")}]
work = Work(UNIT_TASK, units, warm_start=False)
try:
    attempt = open_batch(folder, work)
    LocalResource(folder).run_attempt(work, attempt, log=logging.getLogger())
except ResourceError as error:
    print(error)
print("next unit started:", (folder / "third").exists())
"""


def test_a_disk_that_is_full_while_units_run_is_named(tmp_path: Path) -> None:
    output = run_on_tiny_disk(tmp_path, 400, RUN, str(tmp_path), "fill_disk")
    assert "The work folder" in output
    assert "No space left on device" in output
    assert "Make room, or set another work_dir" in output


def test_a_disk_with_room_enough_is_no_trouble(tmp_path: Path) -> None:
    assert run_on_tiny_disk(tmp_path, 400, RUN, str(tmp_path), "x") == "next unit started: True\n"


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    output = run_on_read_only_disk(tmp_path, RUN, str(tmp_path), "x")
    assert "Read-only file system" in output


def call(folder: Path, generation: str = "first", **changes: object) -> BatchCall:
    fields: dict[str, object] = {"units": [{"output": {"n": 1}}], "meta": {}} | changes
    return BatchCall(command=UNIT_TASK, folder=str(folder / "0000-x"), generation=generation, **fields)  # type: ignore[arg-type]


def test_a_batch_is_run_and_taken_and_a_cleared_one_starts_anew(tmp_path: Path) -> None:
    resource = LocalResource(tmp_path)

    first = resource.run(call(tmp_path), log=LOG)
    resource.take(first.folder)
    cleared = resource.run(call(tmp_path, "second"), log=LOG)

    assert [outcome.output for outcome in first.outcomes] == [{"n": 1}]
    assert first.folder == str(tmp_path / "0000-x" / "1")
    assert cleared.folder == str(tmp_path / "0000-x" / "2")


def test_a_rejected_result_is_run_again_by_a_retry(tmp_path: Path) -> None:
    resource = LocalResource(tmp_path)
    started = {"started": str(tmp_path / "started"), "output": {}}
    end = resource.run(call(tmp_path, units=[started]), log=LOG)

    resource.reject(end.folder, {0: "no list"})
    (rejected,) = resource.read_outcomes(end.folder, 1)
    again = resource.run(call(tmp_path, units=[started]), log=LOG)

    assert rejected.error is not None
    assert rejected.error.kind == "output"
    assert again.folder == end.folder
    assert starts(tmp_path / "started") == 2


def test_nothing_is_left_over_on_this_machine(tmp_path: Path) -> None:
    assert LocalResource(tmp_path).leftovers(str(tmp_path)) == []
