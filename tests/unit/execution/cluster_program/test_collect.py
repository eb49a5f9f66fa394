"""Collecting: what came of a job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.execution.cluster_program.calls import Failed, Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm

NO_CONTROLLER = {"code": 1, "err": "slurm_load_jobs error: Unable to contact slurm controller\n"}


def collect(program: Program, **more: Any) -> Any:
    return program.ask("collect", folder=str(program.attempt), count=2, job_id="101", **more)


def test_results_are_collected_and_taken_when_all_are_there(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.finish(0, failed=(1,))
    slurm.set("101", state="COMPLETED")
    reply = collect(program, take=True)
    assert [result["status"] for result in reply["results"]] == ["done", "failed"]
    assert not reply["taken"]
    program.finish(1)
    reply = collect(program, take=True)
    assert [result["output"] for result in reply["results"]] == [{"n": 0}, {"n": 1}]
    assert reply["taken"]
    assert json.loads((program.attempt / "attempt.json").read_text())["taken"]


def test_of_results_that_are_too_large_nothing_is_taken_or_told(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.finish(0, 1)
    slurm.set("101", state="COMPLETED")
    assert collect(program, take=True, most_bytes=20) == {"too_large": True}
    assert not json.loads((program.attempt / "attempt.json").read_text())["taken"]
    assert "collected" not in program.record()
    assert collect(program, take=True, most_bytes=2000)["taken"]


def test_everything_that_explains_an_end_is_collected(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="FAILED", exit_code=9, nodes="n2", time="1:05")
    (program.attempt / "slurm-101.err").write_text("".join(f"line {n}\n" for n in range(1000)) + "\0")
    (program.attempt / "job-101.exit").write_text("137\n")
    (program.attempt / "usage.json").write_text(json.dumps({"job_id": "101", "max_rss_mb": 812.0}))
    reply = collect(program)
    assert reply["job"]["signal"] == 9
    assert (reply["job"]["nodes"], reply["job"]["seconds"], reply["job"]["time_limit"]) == ("n2", 65, 3600)
    assert reply["exit"] == 137
    assert reply["stderr_tail"].endswith("line 999\n\N{REPLACEMENT CHARACTER}")
    assert len(reply["stderr_tail"].splitlines()) == 30
    assert reply["usage"] == {"max_rss_mb": 812.0}
    assert reply["cancelled_by"] is None


def test_the_use_of_another_job_is_not_this_ones(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    (program.attempt / "usage.json").write_text(json.dumps({"job_id": "55", "max_rss_mb": 812.0}))
    assert collect(program)["usage"] is None


def test_who_cancelled_a_job_is_told(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.ask("cancel", jobs=[{"id": "101", "folder": str(program.attempt)}], by="try 1: marked failed")
    reply = collect(program)
    assert reply["job"]["state"] == "CANCELLED"
    assert reply["cancelled_by"] == "try 1: marked failed"


def test_complete_results_need_no_controller_and_others_do(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.say("squeue", **NO_CONTROLLER)
    with pytest.raises(Failed, match="controller"):
        collect(program)
    program.finish(0, 1)
    assert collect(program)["job"] is None


def test_what_the_queue_has_forgotten_is_in_the_accounting(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    slurm.set("101", state="OUT_OF_MEMORY")
    slurm.forget("101")
    job = collect(program)["job"]
    assert (job["state"], job["requested_mem_mb"], job["time_limit"]) == ("OUT_OF_MEMORY", 1000.0, 3600)


def test_results_alone_are_read_for_a_merge(program: Program) -> None:
    program.submit()
    program.finish(1)
    assert program.ask("results", folder=str(program.attempt), count=2)["results"][0]["index"] == 1


def test_a_rejected_output_is_a_failure_that_is_run_again(program: Program, slurm: FakeSlurm) -> None:
    program.submit()
    program.finish(0, 1)
    program.ask("settle", folder=str(program.attempt), reject={"1": "the output is a list"})
    slurm.set("101", state="COMPLETED")
    assert [each["status"] for each in collect(program)["results"]] == ["done", "failed"]
    assert program.submit()["done"] == 1


def test_failures_of_an_earlier_job_are_none_of_this_one(program: Program, slurm: FakeSlurm) -> None:
    program.submit(units=3)
    program.finish(0, failed=(1, 2))
    slurm.set("101", state="FAILED")
    program.ask("collect", folder=str(program.attempt), count=3, job_id="101")
    program.submit(units=3)
    program.finish(failed=(2,))
    slurm.set("102", state="NODE_FAIL")
    found = program.ask("collect", folder=str(program.attempt), count=3, job_id="102")["results"]
    assert [(each["index"], each["status"]) for each in found] == [(0, "done"), (2, "failed")]


def test_a_retry_that_adopts_a_job_is_told_what_there_was_before_the_job(program: Program) -> None:
    program.submit()
    program.finish(0)
    retry = program.submit()
    assert retry["job"]["adopted"]
    assert (retry["done"], retry["offset"]) == (0, 0)


def test_units_that_were_started_and_have_no_result_show_the_end_of_their_logs(program: Program) -> None:
    program.submit(units=3)
    program.finish(0)
    for index in (0, 1):
        (program.attempt / f"{index}-log.txt").write_text("=== begins\nat image 7\n")
    reply = program.ask("collect", folder=str(program.attempt), count=3, job_id="101")
    assert reply["log_tails"] == {"1": "=== begins\nat image 7"}


def test_complete_results_can_be_taken_later(program: Program) -> None:
    program.submit(generation="first")
    program.finish(0, 1)
    program.ask("settle", folder=str(program.attempt), reject={}, take=True)
    assert program.submit(generation="second")["folder"] == str(program.batch / "2")
