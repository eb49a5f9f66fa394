"""A task instance on a cluster: what it does in which of its processes, with a cluster that is not there."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred

from fractal_airflow.exceptions import (
    ClusterBusyError,
    ClusterUnreachableError,
    JobCancelledError,
    NodeFailureError,
    SubmissionError,
)
from fractal_airflow.execution.resource import BatchCall, BatchEnd
from fractal_airflow.execution.slurm.messages import Collected, JobRef, Submitted
from fractal_airflow.execution.units import Outcome, UnitError
from fractal_airflow.operators.run import RunBatchOperator
from fractal_airflow.triggers.slurm import SlurmJobTrigger, SlurmPauseTrigger

FOLDER = "/runs/b/1"
JOB = Submitted(FOLDER, 1, JobRef("7", "B-03-0"))
DONE = BatchEnd(FOLDER, [Outcome("done")], usage={"used": {"wall_s": 3}}, taken=True)
LOST = BatchEnd(FOLDER, [Outcome("failed", error=UnitError("node", "its machine failed"))])
BATCH: Any = {"index": 4, "label": "B/03/0", "units": [{"zarr_url": "/d/p.zarr/B/03/0"}]}


class FakeResource:
    """Gives, or raises, what it was told to, in turn."""

    work_dir = "/runs"
    defers = True
    config = SimpleNamespace(results_wait=60.0)

    def __init__(self, *, submits: list[Any] | None = None, ends: list[Any] | None = None) -> None:
        self.submits = submits or [JOB]
        self.ends = ends or [DONE]
        self.calls: list[BatchCall] = []
        self.done: list[str] = []
        self.cancel_error: Exception | None = None

    def submit(self, call: BatchCall, *, log: Any) -> Submitted:
        self.calls.append(call)
        return given(self.submits)

    def finish(self, submitted: Submitted, *, log: Any, collected: Collected | None = None) -> BatchEnd:
        return given(self.ends)

    def run(self, call: BatchCall, *, log: Any) -> BatchEnd:
        self.done.append("run")
        return given(self.ends)

    def take(self, folder: str) -> None:
        self.done.append("take")

    def cancel_batch(self, call: BatchCall) -> None:
        self.done.append("cancel_batch")
        if self.cancel_error:
            raise self.cancel_error


def given(answers: list[Any]) -> Any:
    answer = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


class Instance:
    """A task instance: its context, and what it left as XComs."""

    def __init__(self, resource: FakeResource, **options: Any) -> None:
        self.xcoms: dict[str, Any] = {}
        self.operator = RunBatchOperator(
            task_id="run",
            command=["python", "task.py"],
            step_name="Measure",
            resource="hpc",
            batch=BATCH,
            **options,
        )
        vars(self.operator)["_resource"] = resource
        ti = SimpleNamespace(dag_id="d", run_id="r", max_tries=3, try_number=1, xcom_push=self._push)
        run = SimpleNamespace(run_after=datetime(2026, 1, 1, tzinfo=UTC))
        store = SimpleNamespace(get=lambda key: None)
        self.context: Any = {"ti": ti, "dag_run": run, "task_state_store": store}

    def _push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def deferred(self, method: str = "execute", event: dict[str, Any] | None = None) -> tuple[Any, str]:
        """Let a process of it run until it defers; return the trigger, and what goes on after it."""
        with pytest.raises(TaskDeferred) as raised:
            self.go_on(method, event)
        return raised.value.trigger, raised.value.method_name

    def go_on(self, method: str, event: dict[str, Any] | None = None) -> Any:
        kwargs = {} if event is None else {"event": event}
        return getattr(self.operator, method)(self.context, **kwargs)


def event(**more: Any) -> dict[str, Any]:
    waiting = {"deadline": None, "pause_s": 0.0, "starts_over": 0}
    collected = asdict(Collected(results=[]))
    return {"end": "ended", "submitted": asdict(JOB), "waiting": waiting, "collected": collected, **more}


def test_a_job_is_submitted_and_left_to_a_trigger() -> None:
    instance = Instance(resource := FakeResource(), slurm_account="imaging", worker_init="module load a\nb")

    trigger, method = instance.deferred()

    assert isinstance(trigger, SlurmJobTrigger)
    assert method == "resume"
    assert trigger.submitted == asdict(JOB)
    assert trigger.deadline is None
    assert (resource.calls[0].account, resource.calls[0].worker_init) == ("imaging", ("module load a", "b"))
    assert instance.xcoms == {}


def test_what_comes_back_becomes_xcoms() -> None:
    instance = Instance(resource := FakeResource())

    instance.go_on("resume", event())

    assert instance.xcoms["return_value"]["index"] == 4
    assert instance.xcoms["usage"] == {"used": {"wall_s": 3}}
    assert resource.done == []  # the trigger took the results with it


def test_a_batch_that_is_complete_already_needs_no_trigger() -> None:
    instance = Instance(FakeResource(submits=[Submitted(FOLDER, 1, None)]))

    instance.go_on("execute")

    assert "return_value" in instance.xcoms


def test_a_lost_job_fails_the_task_after_its_xcom() -> None:
    instance = Instance(FakeResource(ends=[LOST]))

    with pytest.raises(NodeFailureError, match="its machine failed"):
        instance.go_on("resume", event())

    assert instance.xcoms["return_value"]["outcomes"][0]["error"][0] == "node"


@pytest.mark.parametrize(
    "error", [ClusterUnreachableError("no route to host"), ClusterBusyError("the queue is full", pause_s=30)]
)
def test_a_submission_that_is_not_possible_now_is_tried_again_outside(error: Any) -> None:
    instance = Instance(FakeResource(submits=[error, error, JOB]))

    trigger, method = instance.deferred()
    assert isinstance(trigger, SlurmPauseTrigger)
    assert method == "submit_again"
    assert trigger.until - time.time() == pytest.approx(max(5, error.pause_s), abs=1)

    trigger, method = instance.deferred(method, {"waiting": trigger.waiting})
    assert trigger.waiting["pause_s"] == max(10, 2 * error.pause_s)

    trigger, _ = instance.deferred(method, {"waiting": trigger.waiting})
    assert isinstance(trigger, SlurmJobTrigger)


def test_a_refused_job_fails_the_task() -> None:
    with pytest.raises(SubmissionError):
        Instance(FakeResource(submits=[SubmissionError("no such partition")])).go_on("execute")


def test_a_cluster_that_does_not_answer_when_results_are_read_is_waited_for() -> None:
    instance = Instance(FakeResource(ends=[ClusterUnreachableError("no route"), DONE]))
    large = event()
    del large["collected"]

    trigger, method = instance.deferred("resume", large)
    assert (type(trigger), method) == (SlurmPauseTrigger, "resume")

    instance.go_on(method, {**trigger.event, "waiting": trigger.waiting})
    assert "return_value" in instance.xcoms


def test_a_job_that_one_of_us_cancelled_by_mistake_is_submitted_again_a_few_times() -> None:
    cancelled = BatchEnd(FOLDER, LOST.outcomes, cancelled_by="an earlier try")
    instance = Instance(FakeResource(submits=[JOB] * 9, ends=[cancelled] * 9))

    what = event()
    for _ in range(3):
        trigger, _ = instance.deferred("resume", what)
        assert isinstance(trigger, SlurmJobTrigger)
        what = event(waiting=trigger.waiting)
    with pytest.raises(NodeFailureError):
        instance.go_on("resume", what)


def test_the_deadline_travels_along_and_ends_the_task_after_its_xcom() -> None:
    instance = Instance(FakeResource(ends=[LOST]), execution_timeout=timedelta(minutes=5))

    trigger, method = instance.deferred()
    assert trigger.deadline == pytest.approx(time.time() + 300, abs=5)

    with pytest.raises(AirflowTaskTimeout, match="Measure: execution_timeout is over"):
        instance.go_on(method, event(end="deadline", waiting=trigger.waiting))
    assert "return_value" in instance.xcoms


def test_a_pause_that_ends_at_the_deadline_leaves_nothing_on_the_cluster() -> None:
    instance = Instance(resource := FakeResource())

    with pytest.raises(AirflowTaskTimeout):
        instance.go_on("submit_again", {"waiting": {"deadline": time.time() - 1}})

    assert resource.done == ["cancel_batch"]


def test_a_cluster_that_does_not_answer_at_the_deadline_ends_the_task_all_the_same() -> None:
    over = {"deadline": time.time() - 1}
    silent = ClusterUnreachableError("no route to host")
    instance = Instance(resource := FakeResource(ends=[silent]))
    resource.cancel_error = silent

    for method, what in (
        ("submit_again", {"waiting": over}),
        ("resume", event(end="deadline", waiting=over)),
    ):
        with pytest.raises(AirflowTaskTimeout, match="its job may go on: no route to host"):
            instance.go_on(method, what)


def test_a_job_that_the_triggerer_cannot_watch_is_waited_for_in_the_worker() -> None:
    instance = Instance(resource := FakeResource())

    instance.go_on("resume", event(end="unwatched", collected=None))

    assert resource.done == ["run"]
    assert "return_value" in instance.xcoms


def test_killed_before_it_has_come_to_that_it_submits_nothing() -> None:
    instance = Instance(resource := FakeResource())
    del vars(instance.operator)["_resource"]
    instance.operator.on_kill()
    vars(instance.operator)["_resource"] = resource

    with pytest.raises(JobCancelledError, match="was ended"):
        instance.go_on("execute")
    assert resource.calls == []


def test_without_a_triggerer_nothing_is_deferred() -> None:
    instance = Instance(
        resource := FakeResource(ends=[BatchEnd(FOLDER, [Outcome("done")])]), deferrable=False
    )

    instance.go_on("execute")

    assert resource.done == ["run", "take"]
