from __future__ import annotations

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, ControllerError, ResourceError
from fractal_airflow.execution.slurm.messages import JobRef, JobStatus, Submitted
from fractal_airflow.execution.slurm.watch import FORCED_WAIT_S, UNKNOWN_WAIT_S, JobWatch

PENDING = JobStatus("PENDING", "Resources", source="squeue")
RUNNING = JobStatus("RUNNING", nodes="n1", source="squeue")
GONE = JobStatus()
UNREACHABLE = ClusterUnreachableError("me@login:22: no route to host")


def watch(count: int = 4, *, done: int = 0, results_wait_s: float = 60.0) -> JobWatch:
    submitted = Submitted("/w/1", count, JobRef("12", "name"), done=done)
    return JobWatch.of(submitted, results_wait_s, now=0.0)


def ended(state: str = "COMPLETED", **more: object) -> JobStatus:
    return JobStatus(state, nodes="n1", source="squeue", **more)  # type: ignore[arg-type]


def test_a_job_is_told_from_its_queue_to_its_end() -> None:
    job = watch()

    lines = [
        *job.take(PENDING, 1),
        *job.take(PENDING, 2),
        *job.take(RUNNING, 3),
        *job.take(JobStatus("RUNNING", nodes="n1", done=1), 13),
        *job.take(ended(done=2, failed=1, exit=1), 23),
    ]

    assert lines == [
        "Job 12 waits for free resources (Resources)",
        "Job 12 runs on n1",
        "1/4 units, 30 s left",
        "Job 12 ended on n1: COMPLETED",
        "4/4 units, 1 failed",
    ]
    assert job.verdict == "ended"


def test_the_reason_for_waiting_is_told_again_only_when_it_changes() -> None:
    job = watch()
    job.take(PENDING, 1)

    assert job.take(PENDING, 2) == []
    assert job.take(JobStatus("PENDING", "Priority"), 3) == [
        "Job 12 waits behind jobs of higher priority (Priority)"
    ]


def test_progress_is_told_seldom_in_a_long_job() -> None:
    job = watch(100_000)
    job.take(RUNNING, 0)
    lines = [
        line for now in range(1, 36_000) for line in job.take(JobStatus("RUNNING", nodes="n1", done=1), now)
    ]

    assert 100 < len(lines) < 300


def test_units_that_an_earlier_try_has_done_count_in_the_progress_and_take_no_time() -> None:
    job = watch(10, done=5)
    job.take(RUNNING, 0)

    assert job.take(JobStatus("RUNNING", nodes="n1", done=1), 10) == ["6/10 units, 40 s left"]


def test_a_job_that_is_requeued_goes_on_where_it_was() -> None:
    job = watch()
    job.take(RUNNING, 0)
    job.take(JobStatus("RUNNING", nodes="n1", done=1, failed=1), 10)

    requeued = job.take(JobStatus("PENDING", "BeginTime", restarts=1), 20)
    job.take(JobStatus("RUNNING", nodes="n2", restarts=1), 130)
    lines = job.take(ended(restarts=1, done=3, exit=0), 140)

    assert requeued == [
        "Job 12 was requeued by SLURM; units that are done are not run again",
        "Job 12 waits for the time from which it may start (BeginTime)",
    ]
    assert lines == ["Job 12 ended on n1: COMPLETED", "4/4 units"]
    assert job.verdict == "ended"


def test_no_answer_is_told_ever_more_seldom_and_ends_nothing() -> None:
    job = watch()
    job.take(RUNNING, 0)

    lines = [
        *job.not_ready(UNREACHABLE, 10),
        *job.not_ready(ControllerError("slurmctld does not answer"), 70),
        *job.not_ready(UNREACHABLE, 610),
        *job.not_ready(UNREACHABLE, 1200),
        *job.not_ready(UNREACHABLE, 100_000),
        *job.take(RUNNING, 100_010),
    ]

    assert lines == [
        "No answer from the cluster; job 12 is left as it is. me@login:22: no route to host",
        "Still no answer from the cluster, for 10 min 0 s. me@login:22: no route to host",
        "Still no answer from the cluster, for 27 h 46 min. me@login:22: no route to host",
        "The cluster answers again, after 27 h 46 min",
    ]
    assert job.verdict is None


def test_who_asks_in_the_wrong_way_hands_over_after_a_while() -> None:
    job = watch()
    wrong_key = ResourceError("the key file is missing")

    job.not_ready(wrong_key, 0)
    job.not_ready(UNREACHABLE, 500)
    job.not_ready(wrong_key, 550)
    job.not_ready(wrong_key, 1100)
    assert job.verdict is None

    job.not_ready(wrong_key, 1150)
    assert job.verdict == "unwatched"


def test_an_end_with_all_results_is_an_end_at_once() -> None:
    job = watch()
    job.take(RUNNING, 0)
    job.take(ended(done=4), 10)

    assert job.verdict == "ended"


def test_results_of_a_slow_file_system_are_waited_for() -> None:
    job = watch(results_wait_s=30)
    job.take(ended(exit=0), 0)
    job.take(ended(exit=0), 29)
    assert job.verdict is None

    job.take(ended(exit=0, done=4), 29.5)
    assert job.verdict == "ended"


def test_results_that_never_come_are_not_waited_for_for_ever() -> None:
    job = watch(results_wait_s=30)
    job.take(ended(), 0)
    job.take(ended(), 30)

    assert job.verdict == "ended"


def test_time_without_an_answer_is_no_time_that_results_had() -> None:
    job = watch(results_wait_s=30)
    job.take(ended(), 0)
    job.not_ready(UNREACHABLE, 5)
    job.take(ended(), 100)
    assert job.verdict is None

    job.take(ended(), 126)
    assert job.verdict == "ended"


def test_a_job_that_says_itself_how_it_failed_is_not_waited_for() -> None:
    job = watch()
    job.take(ended("FAILED", reason="NonZeroExitCode", exit=143), 0)

    assert job.verdict == "ended"


@pytest.mark.parametrize("state", ["TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "CANCELLED"])
def test_what_was_ended_by_force_is_waited_for_only_a_moment(state: str) -> None:
    job = watch()
    job.take(ended(state, done=1), 0)
    assert job.verdict is None

    job.take(ended(state), FORCED_WAIT_S)
    assert job.verdict == "ended"


def test_a_job_that_was_killed_for_its_memory_is_waited_for_only_a_moment() -> None:
    job = watch()
    job.take(ended("FAILED", reason="JobLaunchFailure"), 0)
    job.take(ended("FAILED", reason="JobLaunchFailure"), FORCED_WAIT_S)

    assert job.verdict == "ended"


def test_a_job_that_slurm_does_not_know_is_lost_but_not_at_once() -> None:
    job = watch(results_wait_s=30)
    assert job.take(GONE, 0) == ["Job 12 is not known to SLURM any more"]
    assert job.verdict is None

    job.take(GONE, 30)
    assert job.verdict == "lost"


def test_a_job_that_is_known_again_is_not_lost() -> None:
    job = watch(results_wait_s=30)
    job.take(GONE, 0)
    job.take(RUNNING, 20)
    job.take(GONE, 40)

    assert job.verdict is None


@pytest.mark.parametrize("known", [JobStatus(exit=1), JobStatus(done=4), JobStatus(exit=0, done=4)])
def test_a_job_that_slurm_has_forgotten_is_known_by_its_own_files(known: JobStatus) -> None:
    job = watch()
    job.take(known, 0)

    assert job.verdict == "ended"


def test_an_unknown_state_is_told_and_becomes_an_error() -> None:
    job = watch()

    assert job.take(JobStatus("FROZEN"), 0) == ["Job 12 is in a state that is not known here: FROZEN"]
    job.take(JobStatus("FROZEN"), UNKNOWN_WAIT_S - 1)
    assert job.verdict is None
    job.take(JobStatus("FROZEN"), UNKNOWN_WAIT_S)
    assert job.verdict == "unknown"


def test_an_unknown_state_that_passes_is_no_error() -> None:
    job = watch()
    job.take(JobStatus("THAWING"), 0)
    job.take(RUNNING, 30)
    job.take(JobStatus("THAWING"), UNKNOWN_WAIT_S + 1)

    assert job.verdict is None


def test_a_batch_without_a_job_cannot_be_watched() -> None:
    with pytest.raises(ValueError, match="has no job"):
        JobWatch.of(Submitted("/w/1", 4, None), 60, 0)
