from __future__ import annotations

import pytest

from fractal_airflow.execution.runner.cluster.queue import ENDED_STATES
from fractal_airflow.execution.slurm import states
from fractal_airflow.execution.slurm.states import (
    Phase,
    kind_of_end,
    phase_of,
    plain_state,
    traced_kind,
    waiting_words,
)
from fractal_airflow.execution.units import ErrorKind

OVER_MEMORY = """\
slurmstepd-n1: error: StepId=82.batch exceeded memory limit (629133312 > 419430400), being killed
slurmstepd-n1: error: Exceeded job memory limit
slurmstepd-n1: error: *** JOB 82 ON n1 CANCELLED AT 2026-11-21T12:11:08 ***"""
OOM_KILL = (
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch. "
    "Some of your processes may have been killed by the cgroup out-of-memory handler."
)
OOM_KILL_OF_23 = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. "
    "Some of the step tasks have been OOM Killed."
)
OVER_TIME = "slurmstepd-n1: error: *** JOB 89 ON n1 CANCELLED AT 2026-11-21T12:24:36 DUE TO TIME LIMIT ***"
NODE_FAILED = (
    "slurmstepd-n1: error: *** JOB 5 ON n1 CANCELLED AT 2026-11-21T12:24:36 DUE TO NODE FAILURE, "
    "SEE SLURMCTLD LOG FOR DETAILS ***"
)
PREEMPTED = "slurmstepd-n1: error: *** JOB 5 ON n1 CANCELLED AT 2026-11-21T12:24:36 DUE TO PREEMPTION ***"
CANCELLED = "slurmstepd-n1: error: *** JOB 83 ON n1 CANCELLED AT 2026-11-21T12:11:21 ***"


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("PENDING", "pending"),
        ("CONFIGURING", "pending"),
        ("REQUEUED", "pending"),
        ("RUNNING", "running"),
        ("COMPLETING", "running"),
        ("SUSPENDED", "running"),
        ("COMPLETED", "ended"),
        ("CANCELLED by 1000", "ended"),
        ("CANCELLED+", "ended"),
        ("DEADLINE", "ended"),
        ("SOMETHING_NEW", None),
        ("", None),
    ],
)
def test_a_state_says_how_far_a_job_is_and_an_unknown_one_says_nothing(
    state: str, phase: Phase | None
) -> None:
    assert phase_of(state) == phase


def test_the_program_on_the_cluster_knows_the_same_ends() -> None:
    assert states._KIND_OF_END.keys() == ENDED_STATES


def test_what_is_added_to_a_state_is_left_out() -> None:
    assert plain_state("CANCELLED by 1000") == "CANCELLED"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("COMPLETED", None),
        ("FAILED", "job"),
        ("OUT_OF_MEMORY", "memory"),
        ("TIMEOUT", "time"),
        ("NODE_FAIL", "node"),
        ("BOOT_FAIL", "node"),
        ("PREEMPTED", "preempted"),
        ("CANCELLED by 0", "cancelled"),
        ("SOMETHING_NEW", "job"),
        (None, "job"),
    ],
)
def test_the_state_of_an_ended_job_says_what_befell_its_units(
    state: str | None, kind: ErrorKind | None
) -> None:
    assert kind_of_end(state) == kind


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        (OOM_KILL, "memory"),
        (OOM_KILL_OF_23, "memory"),
        (OVER_TIME, "time"),
        (NODE_FAILED, "node"),
        (PREEMPTED, "preempted"),
        (CANCELLED, "cancelled"),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_where_the_state_says_little_the_stderr_of_the_job_says_more(
    stderr: str, kind: ErrorKind | None
) -> None:
    assert traced_kind(stderr) == kind
    assert kind_of_end("FAILED", stderr) == (kind or "job")
    assert kind_of_end(None, stderr) == (kind or "job")


def test_a_job_that_slurm_ended_for_its_memory_is_no_cancelled_one() -> None:
    assert kind_of_end("FAILED", OVER_MEMORY) == "memory"


def test_the_last_end_counts_of_a_job_that_was_requeued() -> None:
    assert kind_of_end("FAILED", f"{NODE_FAILED}\n{OVER_TIME}") == "time"


def test_the_stderr_has_no_say_where_the_state_is_clear() -> None:
    assert kind_of_end("TIMEOUT", NODE_FAILED) == "time"
    assert kind_of_end("COMPLETED", f"{NODE_FAILED}\n") is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "waits for free resources (Resources)"),
        ("(Priority)", "waits behind jobs of higher priority (Priority)"),
        ("", "was not looked at by the scheduler yet"),
        (
            "AssocGrpCpuLimit",
            "waits until a limit of the account or quality of service allows it (AssocGrpCpuLimit)",
        ),
        (
            "QOSMaxJobsPerUserLimit",
            "waits until a limit of the account or quality of service allows it (QOSMaxJobsPerUserLimit)",
        ),
        (
            "ReqNodeNotAvail, UnavailableNodes:n1",
            "waits, since a node that it asks for is not available (ReqNodeNotAvail, UnavailableNodes:n1)",
        ),
        (
            "launch failed requeued held",
            "is held, since it could not be started: `scontrol release` lets it go (launch failed requeued held)",
        ),
        (
            "PartitionConfig",
            "asks for more than its partition has, and will not start as it is (PartitionConfig)",
        ),
        ("TheMoonIsFull", "waits: TheMoonIsFull"),
    ],
)
def test_the_reason_why_a_job_is_pending_is_told_in_words(reason: str, words: str) -> None:
    assert waiting_words(reason) == words


def test_nodes_that_are_down_are_told_in_words() -> None:
    reason = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    assert (
        waiting_words(reason) == f"waits, since nodes that it needs are down, drained or reserved ({reason})"
    )
