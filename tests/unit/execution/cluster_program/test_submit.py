"""Submitting: whatever goes wrong on the way, an attempt has one job."""

from __future__ import annotations

import errno
import fcntl
import json
import time
from typing import Any

import pytest

from fractal_airflow.execution.runner.cluster import lock, records, submit
from tests.unit.execution.batches import wait_until
from tests.unit.execution.cluster_program.calls import Failed, Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
NO_CONTROLLER = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


def test_a_batch_gets_an_attempt_and_a_job(program: Program, slurm: FakeSlurm) -> None:
    reply = program.submit()
    assert reply["folder"] == str(program.attempt)
    assert (reply["count"], reply["done"], reply["offset"], reply["complete"]) == (2, 0, 0, False)
    assert reply["job"]["id"] == "101"
    assert not reply["job"]["adopted"]
    assert slurm.jobs["101"]["name"] == reply["job"]["name"]
    assert slurm.jobs["101"]["folder"] == str(program.attempt)
    assert (program.attempt / "job.sh").read_text() == "#!/bin/bash\ntrue\n"
    assert json.loads((program.attempt / "1-args.json").read_text()) == {"zarr_url": "/data/1"}


def test_the_name_of_a_job_is_readable_and_plain(program: Program) -> None:
    assert program.submit()["job"]["name"].startswith("dag.step-B-03-2-")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "SOMETHING_NEW"])
def test_a_job_that_has_not_ended_is_adopted(program: Program, slurm: FakeSlurm, state: str) -> None:
    first = program.submit()
    slurm.set("101", state=state)
    second = program.submit()
    assert second["job"] == {**first["job"], "adopted": True}
    assert len(slurm.calls("sbatch")) == 1


def test_a_job_is_adopted_whose_submission_was_cut_off_before_it_was_recorded(
    program: Program, slurm: FakeSlurm
) -> None:
    program.submit()
    program.change_record(id=None)
    assert program.submit()["job"]["id"] == "101"
    assert program.record()["id"] == "101"
    assert len(slurm.jobs) == 1


def test_a_submission_that_timed_out_but_was_accepted_is_found(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed, match=r"controller: sbatch says: .*Socket timed out") as failed:
        program.submit()
    assert failed.value.error["maybe_accepted"]
    assert program.submit()["job"]["adopted"]
    assert len(slurm.jobs) == 1


def test_a_submission_that_was_not_answered_is_waited_for_a_while(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed):
        program.submit()
    with pytest.raises(Failed, match="may still turn up") as failed:
        program.submit()
    assert 0 < failed.value.error["pause_s"] <= records.DOUBT_SECONDS
    program.change_record(submitted_at=time.time() - records.DOUBT_SECONDS)
    with pytest.raises(Failed, match="may still turn up"):
        program.submit()
    program.change_record(answered_at=time.time() - records.PILE_SECONDS)
    assert not program.submit()["job"]["adopted"]
    assert len(slurm.jobs) == 1


def test_an_earlier_generation_may_still_get_its_job(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, code=1, err=TIMED_OUT, times=1)
    with pytest.raises(Failed):
        program.submit(generation="first")
    slurm.say("squeue", out="", times=1)  # it is not there yet
    with pytest.raises(Failed, match="may still turn up"):
        program.submit(generation="second")
    assert not program.submit(generation="second")["job"]["adopted"]
    assert slurm.live == ["102"]


def test_a_command_that_hangs_is_stopped(
    program: Program, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_airflow.execution.runner.cluster.sbatch.DEADLINE_SECONDS", 0.3)
    slurm.say("sbatch", sleep=30, times=1)
    with pytest.raises(Failed, match="controller: sbatch did not come to an end") as failed:
        program.submit()
    assert failed.value.error["maybe_accepted"]


def test_without_an_answer_of_the_controller_nothing_is_submitted(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("squeue", code=1, err=NO_CONTROLLER)
    with pytest.raises(Failed, match="controller: squeue says: slurm_load_jobs error: Unable to contact"):
        program.submit()
    assert slurm.calls("sbatch") == []


def test_what_is_complete_needs_no_job_and_no_controller(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.finish(0, 1)
    slurm.say("squeue", code=1, err=NO_CONTROLLER)
    reply = program.submit()
    assert reply["complete"]
    assert reply["job"] is None
    assert reply["done"] == 2


def test_the_end_that_nobody_was_told_is_told_before_another_job_is_submitted(
    program: Program, slurm: FakeSlurm
) -> None:
    program.submit()
    program.finish(0, failed=(1,))
    slurm.set("101", state="FAILED")
    slurm.forget("101")
    assert program.submit()["job"] == {**program.submit()["job"], "id": "101", "adopted": True}
    program.ask("collect", folder=str(program.attempt), count=2, job_id="101")
    retry = program.submit()
    assert retry["job"]["id"] == "102"
    assert (retry["done"], retry["offset"]) == (1, (program.attempt / "results.jsonl").stat().st_size)


def test_collecting_from_a_job_that_still_runs_is_no_end(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.ask("collect", folder=str(program.attempt), count=2, job_id="101")
    slurm.set("101", state="FAILED")
    assert program.submit()["job"]["id"] == "101"


def test_a_job_that_ended_before_it_was_recorded_is_found(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.change_record(id=None)
    slurm.set("101", state="TIMEOUT")
    assert program.submit()["job"]["id"] == "101"


def test_a_job_whose_end_was_told_is_followed_by_another(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="CANCELLED")
    program.change_record(collected=True)
    assert program.submit()["job"]["id"] == "102"
    assert program.record()["former"] == ["101"]


def test_a_job_that_we_have_cancelled_is_followed_by_another(program: Program, slurm: FakeSlurm) -> None:
    job = program.submit()["job"]
    program.ask("cancel", jobs=[{"id": job["id"], "folder": str(program.attempt)}], by="a worker that stops")
    assert program.submit()["job"]["id"] == "102"


def test_clearing_a_task_instance_ends_the_job_of_its_former_try(program: Program, slurm: FakeSlurm) -> None:
    program.submit(generation="first")
    slurm.set("101", state="RUNNING")
    reply = program.submit(generation="second")
    assert reply["folder"] == str(program.attempt)
    assert not reply["job"]["adopted"]
    assert slurm.live == ["102"]
    assert "newer try" in json.loads((program.attempt / "cancelled-101.json").read_text())["by"]


def test_a_former_job_that_does_not_end_is_waited_for_later(
    program: Program, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "FORMER_SECONDS", 0)
    program.submit(generation="first")
    slurm.set("101", stubborn=True)
    with pytest.raises(Failed, match="busy: job 101 of an earlier try is still ending"):
        program.submit(generation="second")
    assert slurm.live == ["101"]


def test_a_finished_batch_that_is_cleared_starts_anew(program: Program, slurm: FakeSlurm) -> None:
    program.submit(generation="first")
    program.finish(0, 1)
    assert program.ask("collect", folder=str(program.attempt), count=2, job_id="101", take=True)["taken"]
    assert program.submit(generation="second")["folder"] == str(program.batch / "2")


def test_of_two_jobs_the_recorded_one_stays(program: Program, slurm: FakeSlurm) -> None:
    name = program.submit()["job"]["name"]
    slurm.add("99", name=name)
    slurm.add("200", name=name)
    assert program.submit()["job"]["id"] == "101"
    assert slurm.live == ["101"]


def test_jobs_of_others_are_left_alone(program: Program, slurm: FakeSlurm) -> None:
    slurm.add("7", name="somebody | else's\tjob-0123456789abcdef-01234567")
    program.submit(generation="first")
    program.submit(generation="second")
    assert slurm.live == ["7", "102"]


def test_the_job_of_another_batch_is_not_adopted(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    other = program.submit(batch_folder=str(program.step / "0001-0123456789ab"))
    assert other["job"]["id"] == "102"


def test_a_refusal_is_told_in_slurms_words_and_the_next_try_need_not_wait(
    program: Program, slurm: FakeSlurm
) -> None:
    error = "sbatch: error: invalid partition specified: nope\n"
    error += "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    slurm.say("sbatch", code=1, err=error, times=1)
    with pytest.raises(Failed, match="refused: sbatch says: sbatch: error: invalid partition") as failed:
        program.submit()
    assert failed.value.error["option"] == "partition"
    assert program.submit()["job"]["id"] == "101"


def test_what_is_to_run_still_is_run_as_is_asked_now(program: Program, slurm: FakeSlurm) -> None:
    batch = program.submission()["batch"]
    program.submit()
    program.submit(batch={**batch, "parallel": 7}, script="another")
    assert json.loads((program.attempt / "batch.json").read_text())["parallel"] == 1  # its job is submitted
    assert (program.attempt / "job.sh").read_text() != "another"
    slurm.set("101", state="OUT_OF_MEMORY")
    program.change_record(collected=True)
    program.submit(batch={**batch, "parallel": 7, "mem_mb": 500}, script="another")
    assert json.loads((program.attempt / "batch.json").read_text())["mem_mb"] == 500
    assert (program.attempt / "job.sh").read_text() == "another"


def test_calls_at_the_same_time_submit_one_job(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, sleep=0.2)
    calls = [program.start(do="submit", **program.submission()) for _ in range(6)]
    replies = [json.loads(call.communicate(timeout=60)[0])["ok"] for call in calls]
    assert {reply["job"]["id"] for reply in replies} == {"101"}
    assert sorted(reply["job"]["adopted"] for reply in replies) == [False] + [True] * 5


def test_a_program_that_is_killed_while_it_submits_loses_no_job_and_doubles_none(
    program: Program, slurm: FakeSlurm
) -> None:
    slurm.say("sbatch", acts=True, sleep=1.0, times=1)
    call = program.start(do="submit", **program.submission())
    wait_until(lambda: slurm.calls("sbatch"))
    call.kill()
    call.communicate()
    reply = program.submit()  # waits until that sbatch, which goes on, has ended
    assert reply["job"] == {**reply["job"], "id": "101", "adopted": True}
    assert list(slurm.jobs) == ["101"]


def test_an_older_call_that_had_to_wait_does_not_undo_what_a_newer_try_has_done(
    program: Program, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.submit(generation="second")
    program.change_record(submitted_at=time.time() + 1)  # while the older one waited for the lock
    with pytest.raises(Failed, match="busy: another try has just submitted"):
        program.submit(generation="first")
    assert slurm.live == ["101"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_will_do(
    program: Program, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock.batch_lock(str(make(program))), pytest.raises(lock.ProgramError, match="still at work"):  # noqa: SIM117
        with lock.batch_lock(str(program.batch), wait_s=0.1):
            pass
    with lock.batch_lock(str(program.batch)):
        pass


def test_the_lock_of_a_killed_program_is_broken_after_a_while(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", -1.0)
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "none")))
    (make(program) / f"{lock.LOCK_FILE}.d").mkdir()
    with lock.batch_lock(str(program.batch), wait_s=1.0):
        pass


def make(program: Program) -> Any:
    program.batch.mkdir(parents=True)
    return program.batch


def test_a_folder_that_cannot_be_written_is_named(program: Program) -> None:
    program.work_dir.mkdir()
    (program.work_dir / "dag").touch()
    with pytest.raises(Failed, match=r"folder: .*0000-0123456789ab cannot be written: Not a directory"):
        program.submit()


def test_a_missing_command_is_named(program: Program, slurm: FakeSlurm) -> None:
    slurm.remove_command("sbatch")
    with pytest.raises(Failed, match=r"setup: sbatch is not found on .* submit host"):
        program.submit()
