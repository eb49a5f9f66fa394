"""The runner as a job of a cluster: its exit code, its GPUs, its memory, and what SLURM does to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.execution import runner
from fractal_airflow.execution.archive import write_runner
from fractal_airflow.execution.runner import attempts
from fractal_airflow.execution.runner.gpus import Gpus, shares
from fractal_airflow.execution.runner.memory import oom_files, parse_oom_kills
from fractal_airflow.execution.runner.units import Ended, result_of
from tests.unit.execution.batches import UNIT_TASK, starts, wait_until

WARM_AND_COLD = pytest.mark.parametrize("warm_start", [True, False], ids=["warm", "cold"])


class Job:
    """A job of a batch, as its script starts it."""

    def __init__(self, folder: Path, units: list[dict[str, Any]], *, parallel: int = 1, **batch: Any) -> None:
        content = {"version": 1, "command": UNIT_TASK, "count": len(units), "parallel": parallel}
        content |= {"warm_start": False, **batch}
        self.folder = Path(attempts.open_attempt(str(folder / "batch"), content, units, "first").folder)
        self._program = write_runner(folder)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self._program), str(self.folder)],
            env={**os.environ, "SLURM_JOB_ID": "7", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> int:
        process = self.start(**environment)
        process.communicate()
        return process.returncode

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        return attempts.results_of(str(self.folder))

    @property
    def usage(self) -> dict[str, Any]:
        return attempts.read_json(str(self.folder / "usage.json"))


def test_the_exit_code_of_a_job_tells_that_units_failed(tmp_path: Path) -> None:
    job = Job(tmp_path, [{"output": {}}, {"wait_for": str(tmp_path / "gate"), "exit": 1}])
    (tmp_path / "gate").touch()
    assert job.run() == runner.EXIT_UNITS_FAILED
    (job.folder / "1-args.json").write_text("{}")
    assert job.run() == 0


@WARM_AND_COLD
def test_units_that_run_at_the_same_time_have_gpus_of_their_own(tmp_path: Path, warm_start: bool) -> None:
    reports = [tmp_path / f"report-{index}" for index in range(6)]
    units = [{"report": str(report)} for report in reports]
    units[0]["wait_for"] = str(reports[3])  # it keeps its own while others come and go
    job = Job(tmp_path, units, parallel=2, warm_start=warm_start, gpus=4)
    assert job.run(CUDA_VISIBLE_DEVICES="0,1,2,GPU-77") == 0
    devices = [json.loads(report.read_text())["environment"]["CUDA_VISIBLE_DEVICES"] for report in reports]
    assert set(devices) == {"0,1", "2,GPU-77"}
    assert devices[1:4] == [devices[1]] * 3 != [devices[0]] * 3


def test_without_gpus_of_the_job_its_variables_stay_as_they_are(tmp_path: Path) -> None:
    job = Job(tmp_path, [{"report": str(tmp_path / "report")}], parallel=1)
    job.run(CUDA_VISIBLE_DEVICES="0,1")
    assert json.loads((tmp_path / "report").read_text())["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_every_variable_that_names_the_gpus_is_shared_out() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "ROCR_VISIBLE_DEVICES": "4,5", "HOME": "/"}
    assert shares(environment, 2) == [
        {"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "4"},
        {"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "5"},
    ]
    assert shares({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 2)[1] == {"CUDA_VISIBLE_DEVICES": "1"}
    assert shares({"CUDA_VISIBLE_DEVICES": ""}, 2) == []


def test_more_units_than_gpus_share_them_evenly() -> None:
    gpus = Gpus({"CUDA_VISIBLE_DEVICES": "0,1"}, parallel=4)
    taken = [gpus.take(unit)["CUDA_VISIBLE_DEVICES"] for unit in range(4)]
    assert taken == ["0", "1", "0", "1"]
    gpus.give_back(1)
    assert gpus.take(4) == {"CUDA_VISIBLE_DEVICES": "1"}


@WARM_AND_COLD
@pytest.mark.parametrize(("mem_mb", "kind"), [(5, "memory"), (100_000, "job"), (None, "job")])
def test_a_unit_that_is_killed_with_its_memory_full_was_killed_for_it(
    tmp_path: Path, mem_mb: float | None, kind: str, warm_start: bool
) -> None:
    more = {} if mem_mb is None else {"mem_mb": mem_mb}
    job = Job(tmp_path, [{"kill": "SIGKILL"}, {"output": {}}], warm_start=warm_start, **more)
    job.run()
    assert job.results[0]["kind"] == kind
    assert ("of the 5 MB that it may use" in job.results[0]["error"]) == (kind == "memory")
    assert job.results[1]["status"] == "done"


def test_a_unit_that_the_kernel_killed_for_memory_was_killed_for_it(tmp_path: Path) -> None:
    job = Job(tmp_path, [{}])
    batch = runner_batch(job)
    ended = Ended(0, signal.SIGKILL, measures={"max_rss_mb": 300.0}, oom_kills=1)
    assert result_of(batch, ended)["kind"] == "memory"
    assert result_of(batch, ended._replace(oom_kills=0))["kind"] == "job"


def runner_batch(job: Job) -> Any:
    from fractal_airflow.execution.runner.batch import Batch

    return Batch(str(job.folder))


def test_the_kernel_counts_its_victims_in_control_groups_of_both_kinds() -> None:
    v2 = "0::/system.slice/slurmstepd.scope/job_5/step_batch/user/task_0\n"
    assert oom_files(v2)[0] == (
        "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_5/step_batch/user/task_0/memory.events"
    )
    v1 = "12:cpu,cpuacct:/\n9:memory:/slurm/uid_0/job_5/step_batch\n1:name=systemd:/x\n"
    assert oom_files(v1) == ["/sys/fs/cgroup/memory/slurm/uid_0/job_5/step_batch/memory.oom_control"]
    assert parse_oom_kills("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 1\n") == 3
    assert parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n") == 1
    assert parse_oom_kills("") == 0


@WARM_AND_COLD
def test_a_signal_to_all_processes_of_a_job_is_no_failure_of_its_units(
    tmp_path: Path, warm_start: bool
) -> None:
    units = [
        {"started": str(tmp_path / f"{index}"), "wait_for": str(tmp_path / "gate")} for index in range(3)
    ]
    job = Job(tmp_path, units, parallel=2, warm_start=warm_start)
    process = job.start()
    wait_until(lambda: starts(tmp_path / "0") and starts(tmp_path / "1"))
    for index in (0, 1):
        os.kill(int((tmp_path / str(index)).read_text()), signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == runner.EXIT_TERMINATED
    assert job.results == {}
    (tmp_path / "gate").touch()
    assert job.run() == 0  # after it was requeued


def test_a_signal_to_a_unit_alone_is_its_failure(tmp_path: Path) -> None:
    job = Job(tmp_path, [{"kill": "SIGTERM"}, {"output": {}}])
    assert job.run() == runner.EXIT_UNITS_FAILED
    assert job.results[0]["signal"] == "SIGTERM"
    assert job.results[1]["status"] == "done"


@WARM_AND_COLD
def test_the_use_of_the_whole_job_is_noted_while_it_runs(tmp_path: Path, warm_start: bool) -> None:
    units = [{"wait_for": str(tmp_path / "gate"), "output": {}} for _ in range(2)]
    job = Job(tmp_path, units, parallel=2, warm_start=warm_start)
    process = job.start()
    wait_until((job.folder / "usage.json").exists)  # for whoever finds it killed
    (tmp_path / "gate").touch()
    process.communicate()
    usage = job.usage
    assert usage["job_id"] == "7"
    assert usage["seconds"] >= 0.5
    assert usage["cpu_seconds"] > 0
    assert usage["max_rss_mb"] > 1.5 * max(result["max_rss_mb"] for result in job.results.values())


@pytest.mark.parametrize(("counted_on", "runs"), [("7", True), (None, True), ("8", False)])
def test_a_job_that_another_was_submitted_in_place_of_does_nothing(
    tmp_path: Path, counted_on: str | None, runs: bool
) -> None:
    job = Job(tmp_path, [{"output": {}}])
    (job.folder / "job.json").write_text(json.dumps({"id": counted_on, "name": "x"}))
    process = job.start(SLURM_JOB_ID="7")
    _, said = process.communicate()
    assert process.returncode == (0 if runs else runner.EXIT_LOCKED)
    assert ("job 8 was submitted in the place of this one" in said) == (not runs)
    assert len(job.results) == int(runs)
