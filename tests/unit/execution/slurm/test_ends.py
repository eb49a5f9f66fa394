from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fractal_airflow.execution.slurm.ends import end_of_batch, kind_of_job, usage_line
from fractal_airflow.execution.slurm.messages import Collected, JobRecord, JobRef, Submitted
from fractal_airflow.execution.units import ErrorKind, Outcome

FOLDER = "/w/dag/run/01_step/0000-abc/1"
TIMED_OUT = JobRecord(
    "12", "TIMEOUT", "TimeLimit", exit_code=0, signal=15, nodes="n1", seconds=62.0,
    requested_mem_mb=4000.0, requested_cpus=2, time_limit=60.0,
)  # fmt: skip
OVER_TIME = "slurmstepd-n1: error: *** JOB 12 ON n1 CANCELLED AT 2026-11-21T12:24:36 DUE TO TIME LIMIT ***"


def done(index: int, **more: Any) -> dict[str, Any]:
    return {"index": index, "status": "done", "host": "n1", "started_at": 1.0, **more}


def killed(index: int, signal: str) -> dict[str, Any]:
    error = f"killed by {signal} on n1"
    return {"index": index, "status": "failed", "kind": "job", "signal": signal, "error": error}


def outcomes(collected: Collected, count: int = 2) -> list[Outcome]:
    return end_of_batch(Submitted(FOLDER, count, JobRef("12", "name")), collected).outcomes


def kinds(collected: Collected, count: int = 2) -> list[str]:
    return [outcome.error.kind if outcome.error else "" for outcome in outcomes(collected, count)]


def messages(collected: Collected, count: int = 2) -> list[str]:
    return [outcome.error.message if outcome.error else "" for outcome in outcomes(collected, count)]


def test_units_with_a_result_are_what_they_are_however_the_job_ended() -> None:
    task = {"index": 1, "status": "failed", "kind": "task", "exit_code": 3, "error": "exit code 3"}
    found = outcomes(Collected([done(0, output={"n": 1}), task], TIMED_OUT))

    assert found[0] == Outcome("done", {"n": 1}, log=f"{FOLDER}/0-log.txt", host="n1", started_at=1.0)
    assert found[1].error is not None
    assert found[1].error.kind == "task"


def test_units_without_a_result_get_the_jobs_end() -> None:
    collected = Collected(
        [done(0, max_rss_mb=812.0)], TIMED_OUT, exit=143, stderr_tail=OVER_TIME,
        usage={"max_rss_mb": 1512.4, "cpu_seconds": 93.0, "seconds": 61.2}, log_tails={"1": "=== begins\nat 7"},
    )  # fmt: skip

    _, lost = outcomes(collected)

    assert lost.host == "n1"
    assert lost.error is not None
    assert lost.error.kind == "time"
    assert lost.error.message == (
        "no result: its job 12 ended TIMEOUT on n1 after 1 min 2 s (exit code 143, signal 15, reason TimeLimit): "
        "it ran past its time limit. Requested 4000 MB, used 1512 MB at most (a unit 812 MB); requested 2 cores, "
        "used 1.5 of them; requested 1 min 0 s, took 1 min 2 s\n"
        f"Last lines of the job's stderr:\n{OVER_TIME}\n\n"
        f"Last lines of {FOLDER}/1-log.txt:\n=== begins\nat 7"
    )


def test_all_lost_units_say_why_and_only_the_first_one_in_full() -> None:
    first, second = messages(Collected([], TIMED_OUT, stderr_tail=OVER_TIME))

    assert OVER_TIME in first
    assert OVER_TIME not in second
    assert "TIMEOUT" in second
    assert second.endswith(f"(log: {FOLDER}/1-log.txt)")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("OUT_OF_MEMORY", "memory"),
        ("TIMEOUT", "time"),
        ("NODE_FAIL", "node"),
        ("PREEMPTED", "preempted"),
        ("CANCELLED", "cancelled"),
        ("FAILED", "job"),
        ("SOMETHING_NEW", "job"),
    ],
)
def test_each_end_of_a_job_is_an_error_of_its_own_kind(state: str, kind: ErrorKind) -> None:
    assert kinds(Collected([done(0)], replace(TIMED_OUT, state=state))) == ["", kind]


def test_a_unit_that_was_killed_when_its_job_ended_failed_for_the_same_reason() -> None:
    collected = Collected([killed(0, "SIGTERM"), killed(1, "SIGKILL"), killed(2, "SIGSEGV")], TIMED_OUT)

    assert kinds(collected, 3) == ["time", "time", "job"]
    assert messages(collected, 3)[0].startswith("killed by SIGTERM on n1: its job 12 ended TIMEOUT")


def test_a_unit_that_was_killed_alone_is_not_the_jobs_doing() -> None:
    assert kinds(Collected([killed(0, "SIGKILL"), done(1)], replace(TIMED_OUT, state="FAILED"))) == [
        "job",
        "",
    ]


def test_a_job_that_ended_well_without_results_has_not_shown_them() -> None:
    (message,) = messages(Collected([], replace(TIMED_OUT, state="COMPLETED", reason=""), exit=0), 1)

    assert "ended COMPLETED on n1" in message
    assert "its results have not shown up: is the work folder a shared one?" in message


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("FAILED", 3, "(exit code 3): No unit has begun: did worker_init end the script? Requested 4000 MB"),
        (
            "COMPLETED",
            0,
            "is the work folder a shared one? No unit has begun: did worker_init end the script?",
        ),
    ],
)
def test_a_script_that_ended_before_the_program_says_so(state: str, code: int, said: str) -> None:
    job = replace(TIMED_OUT, state=state, reason="", exit_code=code, signal=0)

    first, second = messages(Collected([], job))

    assert said in first
    assert first.endswith(f"(see slurm-12.err and slurm-12.out in {FOLDER})")
    assert said in second


@pytest.mark.parametrize(
    "collected",
    [
        Collected([done(0)], replace(TIMED_OUT, state="FAILED", signal=0)),
        Collected([], replace(TIMED_OUT, state="FAILED", exit_code=70, signal=0)),
        Collected([], replace(TIMED_OUT, state="FAILED", signal=9)),
        Collected([], replace(TIMED_OUT, state="COMPLETED", signal=0), exit=0),
    ],
    ids=["a result", "its own code", "killed", "its own end"],
)
def test_a_program_that_has_begun_is_not_taken_for_a_script_that_ended(collected: Collected) -> None:
    assert "worker_init" not in messages(collected)[1]


def test_a_job_that_nobody_knows_any_more_is_told_by_its_own_files() -> None:
    gone = Collected([done(0)], None, exit=143, stderr_tail=OVER_TIME)

    assert kinds(gone) == ["", "time"]
    assert "its job 12 is gone: SLURM does not know it any more (exit code 143)" in messages(gone)[1]


def test_a_job_that_left_no_trace_at_all_is_lost() -> None:
    assert kinds(Collected([done(0)], None)) == ["", "job"]


def test_who_cancelled_a_job_is_told_where_it_was_one_of_us() -> None:
    by = "Airflow: the task instance is failed"
    cancelled = Collected([], replace(TIMED_OUT, state="CANCELLED"), cancelled_by=by)

    assert f"cancelled by {by}" in messages(cancelled, 1)[0]
    assert end_of_batch(Submitted(FOLDER, 1, JobRef("12", "name")), cancelled).cancelled_by == by
    assert kind_of_job(replace(cancelled, job=None)) == "cancelled"


def test_a_job_in_an_unknown_state_is_said_to_be_given_up() -> None:
    (message,) = messages(Collected([], replace(TIMED_OUT, state="FROZEN")), 1)
    assert "was in a state that is not known here, FROZEN on n1, and was given up" in message


def test_a_job_that_still_runs_is_said_to_be_given_up() -> None:
    (message,) = messages(Collected([], replace(TIMED_OUT, state="RUNNING")), 1)
    assert "was still RUNNING on n1" in message


def test_the_use_of_a_job_is_set_against_what_was_requested() -> None:
    measured = {"max_rss_mb": 812.4, "cpu_seconds": 93.0, "seconds": 62.5}
    collected = Collected([done(0, max_rss_mb=401.0)], TIMED_OUT, usage=measured)
    usage = end_of_batch(Submitted(FOLDER, 1, JobRef("12", "name")), collected).usage

    assert usage == {
        "requested": {"mem_mb": 4000.0, "cpus": 2, "time_s": 60.0},
        "used": {"max_unit_rss_mb": 401.0, "job_max_rss_mb": 812.4, "cpu_s": 93.0, "wall_s": 62.5},
    }
    assert usage_line(usage) == (
        "requested 4000 MB, used 812 MB at most (a unit 401 MB); requested 2 cores, used 1.5 of them; "
        "requested 1 min 0 s, took 1 min 2 s"
    )


def test_of_the_use_only_what_is_known_is_told() -> None:
    usage = end_of_batch(
        Submitted(FOLDER, 1, JobRef("12", "n")), Collected([done(0, max_rss_mb=401.0)])
    ).usage
    assert usage == {"used": {"max_unit_rss_mb": 401.0}}
    assert usage_line(usage) == "a unit used 401 MB at most"
    assert usage_line(None) == ""


def test_the_accounting_knows_the_memory_of_a_job_that_could_not_tell_itself() -> None:
    collected = Collected([], replace(TIMED_OUT, max_rss_mb=3999.0))
    usage = end_of_batch(Submitted(FOLDER, 1, JobRef("12", "name")), collected).usage
    assert usage is not None
    assert usage["used"]["job_max_rss_mb"] == 3999.0


def test_a_batch_that_needed_no_job_has_used_nothing() -> None:
    end = end_of_batch(Submitted(FOLDER, 1, None), Collected([done(0, max_rss_mb=401.0)]))
    assert end.usage is None
    assert end.outcomes[0].status == "done"
