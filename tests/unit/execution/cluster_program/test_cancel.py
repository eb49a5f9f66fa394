"""Cancelling jobs, and cleaning up after them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fractal_airflow.execution.runner.cluster import records
from tests.unit.execution.batches import wait_until
from tests.unit.execution.cluster_program.calls import Failed, Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
GONE = "scancel: error: Kill job error on job id 101: Job/step already completing or completed\n"


@pytest.mark.parametrize("key", ["id", "name"])
def test_a_job_is_cancelled_by_id_or_name(program: Program, slurm: FakeSlurm, key: str) -> None:
    job = program.submit()["job"]
    program.submit(batch_folder=str(program.step / "0001-0123456789ab"))
    reply = program.ask("cancel", jobs=[{key: job[key], "folder": str(program.attempt)}], by="a test")
    assert reply == {"cancelled": ["101"]}
    assert slurm.live == ["102"]


@pytest.mark.parametrize("folder", ["batch", "attempt"])
def test_a_submission_that_was_cut_off_is_cancelled_by_its_folder(
    program: Program, slurm: FakeSlurm, folder: str
) -> None:
    program.submit(generation="second")
    item = {"folder": str(getattr(program, folder)), "generation": "first"}
    assert program.ask("cancel", jobs=[item], by="a former try")["cancelled"] == []
    item["generation"] = "second"
    assert program.ask("cancel", jobs=[item], by="its own try")["cancelled"] == ["101"]


def test_a_submission_under_way_is_waited_for_and_cancelled(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, sleep=0.7, times=1)
    call = program.start(do="submit", **program.submission())
    wait_until(lambda: slurm.calls("sbatch"))
    item = {"folder": str(program.batch), "generation": "first"}
    assert program.ask("cancel", jobs=[item], by="a killed worker")["cancelled"] == ["101"]
    call.communicate()
    assert slurm.live == []


def test_a_job_that_may_still_turn_up_is_waited_for(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed):
        program.submit()
    item = {"folder": str(program.batch)}
    slurm.say("squeue", out="", times=1)  # it is not there yet
    with pytest.raises(Failed, match="controller: the last submission was not answered"):
        program.ask("cancel", jobs=[item], by="a user")
    assert program.ask("cancel", jobs=[item], by="a user")["cancelled"] == ["101"]
    assert program.ask("cancel", jobs=[{**item, "generation": "another"}], by="a user")["cancelled"] == []


def test_a_job_that_never_turns_up_is_waited_for_no_longer(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed):
        program.submit()
    long_ago = time.time() - records.DOUBT_SECONDS
    program.change_record(submitted_at=long_ago, answered_at=long_ago)
    assert program.ask("cancel", jobs=[{"folder": str(program.batch)}], by="a user")["cancelled"] == []


def test_many_jobs_are_one_question_and_one_command(program: Program, slurm: FakeSlurm) -> None:
    folders = [str(program.step / f"{index:04d}-0123456789ab") for index in range(5)]
    replies = [program.submit(batch_folder=folder) for folder in folders]
    asked = len(slurm.calls("squeue"))
    jobs = [{"id": reply["job"]["id"], "folder": reply["folder"]} for reply in replies]
    assert len(program.ask("cancel", jobs=jobs, by="a test")["cancelled"]) == 5
    assert len(slurm.calls("squeue")) == asked + 1
    assert slurm.calls("scancel") == [["101", "102", "103", "104", "105"]]


def test_a_job_that_has_ended_is_none_to_cancel(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="COMPLETED")
    job = {"id": "101", "folder": str(program.attempt)}
    assert program.ask("cancel", jobs=[job], by="a test")["cancelled"] == []
    assert not list(program.attempt.glob("cancelled-*"))


def test_a_job_that_ends_while_it_is_cancelled_is_no_error(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.say("scancel", code=1, err=GONE)
    job = {"id": "101", "folder": str(program.attempt)}
    assert program.ask("cancel", jobs=[job], by="a test")["cancelled"] == ["101"]


def test_a_controller_that_does_not_answer_is_to_be_asked_again(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.say("scancel", code=1, err="scancel: error: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(Failed, match=r"controller: scancel says: .*Unable to contact"):
        program.ask("cancel", jobs=[{"id": "101", "folder": str(program.attempt)}], by="a test")


def test_the_leftovers_of_a_step_are_cancelled_and_nothing_else(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.submit(batch_folder=str(program.step / "0001-0123456789ab"))
    program.submit(batch_folder=str(program.step.parent / "02_other" / "0000-0123456789ab"))
    reply = program.ask("leftovers", folder=str(program.step), by="merge")
    assert reply["cancelled"] == ["101", "102"]
    assert slurm.live == ["103"]


def test_leftovers_that_may_still_turn_up_are_asked_for_again(program: Program, slurm: FakeSlurm) -> None:
    program.submit(batch_folder=str(program.step / "0001-0123456789ab"))
    slurm.say("sbatch", code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed):
        program.submit()
    with pytest.raises(Failed, match="may still turn up"):
        program.ask("leftovers", folder=str(program.step), by="merge")
    assert slurm.live == []


def test_a_run_with_a_job_is_not_cleaned_up(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    request = {"work_dir": str(program.work_dir), "keep": [], "before": time.time() + 1, "dry_run": False}
    assert program.ask("clean", **request)["in_use"] == [str(program.step.parent)]
    slurm.set("101", state="COMPLETED")
    assert program.ask("clean", **{**request, "keep": ["dag/run"]})["removed"] == []
    assert len(program.ask("clean", **request)["removed"]) == 1
    assert not program.step.exists()


def test_without_an_answer_of_the_controller_nothing_is_cleaned_up(
    program: Program, slurm: FakeSlurm
) -> None:
    program.submit()
    slurm.say("squeue", code=1, err="slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(Failed, match="controller"):
        program.ask("clean", work_dir=str(program.work_dir), keep=[], before=time.time() + 1, dry_run=False)
    assert program.step.exists()


def test_a_folder_that_is_not_there_has_no_jobs(program: Program, tmp_path: Path) -> None:
    assert program.ask("leftovers", folder=str(tmp_path / "none"), by="merge")["cancelled"] == []
    assert program.ask("cancel", jobs=[{"folder": str(tmp_path / "none")}], by="x")["cancelled"] == []
