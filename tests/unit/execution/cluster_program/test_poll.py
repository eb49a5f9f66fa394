"""Polling: how jobs are, and how far."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.execution.cluster_program.calls import Failed, Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm


def poll(program: Program, job_id: str = "101", offset: int = 0) -> dict[str, Any]:
    jobs = [{"id": job_id, "folder": str(program.attempt), "offset": offset}]
    reply: dict[str, Any] = program.ask("poll", jobs=jobs)["jobs"][job_id]
    return reply


def test_a_job_that_waits(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    reply = poll(program)
    assert reply["state"] == "PENDING"
    assert reply["reason"] == "Resources"
    assert reply["source"] == "squeue"
    assert reply["exit"] is None


def test_progress_is_told_since_the_last_poll(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.finish(0, failed=(1,))
    first = poll(program)
    assert (first["done"], first["failed"]) == (1, 1)
    assert poll(program, offset=first["offset"])["done"] == 0
    with (program.attempt / "results.jsonl").open("a") as file:
        file.write('{"index": 1, "status": "done"}\n{"index": 0, "stat')
    second = poll(program, offset=first["offset"])
    assert (second["done"], second["failed"]) == (1, 0)
    assert second["offset"] < (program.attempt / "results.jsonl").stat().st_size


def test_many_jobs_are_one_question(program: Program, slurm: FakeSlurm) -> None:
    jobs = []
    for index in range(20):
        reply = program.submit(batch_folder=str(program.step / f"{index:04d}-0123456789ab"))
        jobs.append({"id": reply["job"]["id"], "folder": reply["folder"], "offset": 0})
    before = len(slurm.calls("squeue"))
    assert len(program.ask("poll", jobs=jobs)["jobs"]) == 20
    assert len(slurm.calls("squeue")) == before + 1
    assert slurm.calls("sacct") == []


def test_the_end_of_the_script_counts_once_the_job_has_ended(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    (program.attempt / "job-101.exit").write_text("70\n")
    assert poll(program)["exit"] is None  # of a run before a requeue
    slurm.set("101", state="FAILED")
    assert poll(program)["exit"] == 70


def test_what_the_queue_has_forgotten_is_in_the_accounting(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="NODE_FAIL")
    slurm.forget("101")
    reply = poll(program)
    assert (reply["state"], reply["source"]) == ("NODE_FAIL", "sacct")


def test_an_accounting_that_lags_behind_does_not_keep_a_job_alive(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="RUNNING")
    slurm.forget("101")
    assert poll(program)["state"] is None


@pytest.mark.parametrize("sacct", ["missing", "disabled"])
def test_without_an_accounting_nobody_knows_what_the_queue_has_forgotten(
    program: Program, slurm: FakeSlurm, sacct: str
) -> None:
    program.submit()
    slurm.set("101", state="COMPLETED")
    slurm.forget("101")
    if sacct == "missing":
        slurm.remove_command("sacct")
    slurm.say("sacct", code=1, err="Slurm accounting storage is disabled\n")
    assert (poll(program)["state"], poll(program)["source"]) == (None, None)


def test_no_such_job_and_no_answer_are_two_things(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    assert poll(program, "999")["state"] is None
    slurm.say("squeue", code=1, err="slurm_load_jobs error: Zero Bytes were transmitted or received\n")
    with pytest.raises(Failed, match=r"controller: squeue says: .*Zero Bytes"):
        poll(program)


def test_a_squeue_that_does_not_know_our_options_will_not_learn_them(
    program: Program, slurm: FakeSlurm
) -> None:
    slurm.say("squeue", code=1, err="squeue: error: Invalid job format specification: restartcnt\n")
    with pytest.raises(Failed, match=r"setup: .*Invalid job format"):
        program.ask("poll", jobs=[])


def test_a_job_that_slurm_took_late_is_cancelled_beside_the_one_in_its_place(
    program: Program, slurm: FakeSlurm
) -> None:
    name = program.submit()["job"]["name"]
    slurm.add("200", name=name)
    poll(program)
    assert slurm.live == ["101"]
