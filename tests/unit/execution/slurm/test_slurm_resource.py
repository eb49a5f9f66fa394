"""A SLURM resource over a SLURM that does as a test wants: see tests/slurm for a real one."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import (
    ControllerError,
    JobCancelledError,
    SubmissionError,
    WorkFolderError,
)
from fractal_airflow.execution.resource import BatchCall, make_resource
from fractal_airflow.execution.slurm.resource import JobRef, SlurmResource, Submitted, submitted_lines
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm

LOG = logging.getLogger("batch")
COMMAND = ("/opt/env/bin/python", "/opt/tasks/measure.py")
NO_CONTROLLER = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


class Scene:
    """A resource, its SLURM, and what happens while the resource waits."""

    def __init__(self, folder: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slurm = slurm
        self.work_dir = folder / "work"
        self.sleeps: list[float] = []
        self.steps: list[Callable[[], object]] = []
        monkeypatch.setattr("fractal_airflow.execution.slurm.resource.time", self)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.sleeps)

    def sleep(self, seconds: float) -> None:
        """Stand for a pause: what is to happen in it happens."""
        self.sleeps.append(seconds)
        assert len(self.sleeps) < 100, "waits for ever"
        if self.steps:
            self.steps.pop(0)()

    def resource(self, **more: Any) -> SlurmResource:
        sets = {"default_slurm_config": {"mem": "1G"}, "batching_config": {"max_cpus_per_job": 2}}
        config = {"type": "slurm", "work_dir": str(self.work_dir), "python": sys.executable}
        resource = make_resource({**config, "jobs_runner_config": sets, **more})
        assert isinstance(resource, SlurmResource)
        return resource

    def call(self, **more: Any) -> BatchCall:
        units = [{"zarr_url": f"/data/{index}"} for index in range(2)]
        folder = str(self.work_dir / "dag" / "run" / "01_measure" / "0000-0123456789ab")
        fields = {"generation": "first", "meta": {}, "label": "Measure B/03/0", **more}
        return BatchCall(units, COMMAND, folder, **fields)

    @property
    def attempt(self) -> Path:
        return Path(self.call().folder) / "1"

    def results(self, *lines: dict[str, Any]) -> None:
        with (self.attempt / "results.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def done(self, *indexes: int) -> None:
        self.results(*({"index": index, "status": "done", "output": {"n": index}} for index in indexes))

    def end(self, state: str, job_id: str = "101", code: int = 0) -> None:
        self.slurm.set(job_id, state=state, nodes="n1", exit_code=256 * code)
        (self.attempt / f"job-{job_id}.exit").write_text(f"{code}\n")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    slurm = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{slurm.bin}:{os.environ['PATH']}")
    return Scene(tmp_path, slurm, monkeypatch)


def test_a_batch_is_submitted_watched_and_collected(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.steps = [
        lambda: None,
        lambda: scene.slurm.set("101", state="RUNNING", reason="None", nodes="n1"),
        lambda: (scene.done(0, 1), scene.end("COMPLETED")),
    ]
    with caplog.at_level(logging.INFO):
        end = scene.resource().run(scene.call(), log=LOG)

    assert [outcome.output for outcome in end.outcomes] == [{"n": 0}, {"n": 1}]
    messages = [record.getMessage() for record in caplog.records if record.name == "batch"]
    assert messages[0].startswith("Submitted job 101 (Measure-B-03-0-")
    assert messages[1:] == [
        "Job 101 waits for free resources (Resources)",
        "Job 101 runs on n1",
        "Job 101 ended on n1: COMPLETED",
        "2/2 units",
        "Job 101: requested 1000 MB; requested 2 cores; requested 1 h 0 min",
    ]
    script = (scene.attempt / "job.sh").read_text()
    assert "#SBATCH --mem=2000M" in script
    assert "/opt/env/bin/python" in script
    assert json.loads((scene.attempt / "batch.json").read_text())["parallel"] == 2


def test_polls_are_as_seldom_as_the_configuration_says(scene: Scene) -> None:
    scene.steps = [lambda: None] * 7 + [lambda: (scene.done(0, 1), scene.end("COMPLETED"))]
    scene.resource(poll_interval=6).run(scene.call(), log=LOG)

    assert scene.sleeps[:6] == [1, 1, 2, 4, 6, 6]


def test_a_retry_adopts_the_job_and_one_after_it_only_runs_the_rest(scene: Scene) -> None:
    resource = scene.resource()
    first = resource.submit(scene.call(), log=LOG)
    again = scene.resource().submit(scene.call(), log=LOG)
    scene.done(0)
    scene.end("NODE_FAIL", code=143)
    end = resource.finish(again, log=LOG)
    retry = resource.submit(scene.call(), log=LOG)

    assert first.job is not None
    assert again.job == JobRef("101", first.job.name, adopted=True)
    assert [outcome.error.kind if outcome.error else "" for outcome in end.outcomes] == ["", "node"]
    assert retry.job == JobRef("102", first.job.name)
    assert retry.done == 1
    assert submitted_lines(retry)[0] == "1 of 2 units are done since an earlier try"
    assert len(scene.slurm.calls("sbatch")) == 2


def test_a_batch_that_is_done_needs_no_job(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    resource = scene.resource()
    resource.submit(scene.call(), log=LOG)
    scene.done(0, 1)
    with caplog.at_level(logging.INFO):
        end = scene.resource().run(scene.call(), log=LOG)

    assert [outcome.status for outcome in end.outcomes] == ["done", "done"]
    assert end.usage is None
    assert "2 of 2 units are done since an earlier try" in caplog.text


def test_cleared_units_run_again_in_an_attempt_of_their_own(scene: Scene) -> None:
    resource = scene.resource()
    resource.submit(scene.call(), log=LOG)
    scene.done(0, 1)
    scene.end("COMPLETED")
    resource.take(str(scene.attempt))

    assert resource.submit(scene.call(generation="second"), log=LOG).folder == str(scene.attempt.parent / "2")


def test_a_cluster_without_an_answer_is_waited_for_and_its_job_is_kept(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.steps = [
        lambda: scene.slurm.set("101", state="RUNNING", nodes="n1"),
        lambda: scene.slurm.say("squeue", times=4, code=1, err=NO_CONTROLLER),
        *[lambda: None] * 3,
        lambda: (scene.done(0, 1), scene.end("COMPLETED")),
    ]
    with caplog.at_level(logging.INFO):
        end = scene.resource().run(scene.call(), log=LOG)

    assert [outcome.status for outcome in end.outcomes] == ["done", "done"]
    assert caplog.text.count("No answer from the cluster; job 101 is left as it is") == 1
    assert caplog.text.count("The cluster answers again") == 1
    assert len(scene.slurm.calls("sbatch")) == 1


def test_a_submission_that_the_controller_does_not_answer_is_made_again(scene: Scene) -> None:
    scene.slurm.say("squeue", times=2, code=1, err=NO_CONTROLLER)
    with pytest.raises(ControllerError, match="Unable to contact slurm controller"):
        scene.resource().submit(scene.call(), log=LOG)

    scene.steps = [lambda: None, lambda: (scene.done(0, 1), scene.end("COMPLETED"))]
    end = scene.resource().run(scene.call(), log=LOG)
    assert [outcome.status for outcome in end.outcomes] == ["done", "done"]


def test_a_refusal_is_not_tried_again(scene: Scene) -> None:
    scene.slurm.say("sbatch", code=1, err="sbatch: error: Invalid account or account/partition combination\n")
    with pytest.raises(SubmissionError, match=r"Invalid account .*The option that caused it: account"):
        scene.resource().run(scene.call(), log=LOG)

    assert scene.sleeps == []


def test_a_work_folder_that_cannot_be_written_is_named(scene: Scene) -> None:
    scene.work_dir.write_text("a file")
    with pytest.raises(
        WorkFolderError, match=r"work/.* cannot be written on this machine: .*another work_dir"
    ):
        scene.resource().submit(scene.call(), log=LOG)


def test_a_job_whose_runner_cannot_write_says_so(scene: Scene) -> None:
    resource = scene.resource()
    submitted = resource.submit(scene.call(), log=LOG)
    (scene.attempt / "slurm-101.err").write_text("No space left on device\n")
    scene.end("FAILED", code=74)
    with pytest.raises(WorkFolderError, match=r"Job 101 cannot use the work folder .*No space left"):
        resource.finish(submitted, log=LOG)


def test_what_was_done_before_the_work_folder_was_full_is_kept(scene: Scene) -> None:
    resource = scene.resource()
    submitted = resource.submit(scene.call(), log=LOG)
    (scene.attempt / "slurm-101.err").write_text("No space left on device\n")
    scene.done(0)
    scene.end("FAILED", code=74)

    first, second = resource.finish(submitted, log=LOG).outcomes

    assert first.status == "done"
    assert second.error is not None
    assert second.error.kind == "job"
    assert "No space left on device" in second.error.message


def test_a_job_in_an_unknown_state_is_cancelled_and_its_results_are_kept(scene: Scene) -> None:
    scene.steps = [lambda: (scene.slurm.set("101", state="FROZEN"), scene.done(0))]
    end = scene.resource(poll_interval=30).run(scene.call(), log=LOG)

    assert [outcome.status for outcome in end.outcomes] == ["done", "failed"]
    assert end.outcomes[1].error is not None
    assert "in a state that is not known here, FROZEN" in end.outcomes[1].error.message
    assert scene.slurm.jobs["101"]["state"] == "CANCELLED"


def test_a_job_that_is_gone_without_a_trace_is_lost_after_a_while(scene: Scene) -> None:
    scene.slurm.remove_command("sacct")
    scene.steps = [lambda: (scene.done(0), scene.slurm.forget("101"))]
    end = scene.resource(results_wait=50).run(scene.call(), log=LOG)

    assert [outcome.error.kind if outcome.error else "" for outcome in end.outcomes] == ["", "job"]
    assert 50 <= sum(scene.sleeps) < 70


def test_an_adopted_job_that_an_earlier_try_cancels_is_submitted_again(scene: Scene) -> None:
    scene.resource().submit(scene.call(), log=LOG)
    earlier = scene.resource()
    earlier.submit(scene.call(), log=LOG)
    scene.steps = [
        earlier.cancel,
        *[lambda: None] * 3,
        lambda: "102" in scene.slurm.jobs and (scene.done(0, 1), scene.end("COMPLETED", "102")),
    ]
    end = scene.resource(results_wait=0).run(scene.call(), log=LOG)

    assert [outcome.status for outcome in end.outcomes] == ["done", "done"]
    assert scene.slurm.jobs["101"]["state"] == "CANCELLED"
    assert len(scene.slurm.calls("sbatch")) == 2


def test_a_job_of_ours_is_cancelled_by_its_id(scene: Scene) -> None:
    resource = scene.resource()
    resource.submit(scene.call(), log=LOG)
    resource.cancel()

    assert scene.slurm.live == []
    assert "task instance was ended" in (scene.attempt / "cancelled-101.json").read_text()


def test_who_was_ended_submits_nothing_any_more(scene: Scene) -> None:
    resource = scene.resource()
    resource.cancel()

    with pytest.raises(JobCancelledError):
        resource.run(scene.call(), log=LOG)
    assert scene.slurm.calls("sbatch") == []


def test_a_signal_in_the_middle_of_a_submission_leaves_no_job(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = scene.resource()
    submit = resource.cluster.submit

    def submit_after_the_signal(*args: Any, **kwargs: Any) -> Submitted:
        resource.cancel()  # it finds nothing yet
        return submit(*args, **kwargs)

    monkeypatch.setattr(resource.cluster, "submit", submit_after_the_signal)

    with pytest.raises(JobCancelledError):
        resource.run(scene.call(), log=LOG)
    assert list(scene.slurm.jobs) == ["101"]
    assert scene.slurm.live == []


def test_what_a_step_left_behind_is_cancelled(scene: Scene) -> None:
    resource = scene.resource()
    resource.submit(scene.call(), log=LOG)

    assert resource.leftovers(str(scene.attempt.parent.parent)) == ["101"]
    assert scene.slurm.live == []


def test_rejected_outputs_are_failures_and_run_again(scene: Scene) -> None:
    resource = scene.resource()
    submitted = resource.submit(scene.call(), log=LOG)
    scene.done(0, 1)
    scene.end("COMPLETED")
    resource.finish(submitted, log=LOG)
    resource.reject(str(scene.attempt), {1: "the output is a list"})

    first, second = resource.read_outcomes(str(scene.attempt), 2)
    assert first.output == {"n": 0}
    assert second.error is not None
    assert second.error.kind == "output"
    assert resource.submit(scene.call(), log=LOG).done == 1


def test_units_that_ran_out_of_memory_get_more_up_to_the_maximum(scene: Scene) -> None:
    sets = {"default_slurm_config": {"mem": "1G"}, "batching_config": {"max_mem_per_job": "1500M"}}
    resource = scene.resource(jobs_runner_config=sets)
    more = resource.with_more(scene.call(), ["memory"])

    assert more is not None
    assert resource.request(more).unit_mem_mb == 1500
    assert resource.with_more(more, ["memory"]) is None
    assert resource.with_more(scene.call(), ["time"]) is None


def test_many_failures_are_told_but_not_all(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    resource = scene.resource()
    units = [{"zarr_url": f"/data/{index}"} for index in range(30)]
    call = BatchCall(units, COMMAND, scene.call().folder, "first", {})
    submitted = resource.submit(call, log=LOG)
    scene.results(*({"index": n, "status": "failed", "kind": "task", "error": "no"} for n in range(30)))
    scene.end("FAILED", code=1)
    with caplog.at_level(logging.ERROR):
        resource.finish(submitted, log=LOG)

    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == f"20 more units failed; their logs are in {scene.attempt}"
