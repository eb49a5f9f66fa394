"""Which failures of units are tried again, when, and with how much more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import RetryAction, RetryDecision, RetryPolicy

from fractal_airflow.exceptions import (
    ClusterUnreachableError,
    FractalAirflowError,
    JobCancelledError,
    JobExecutionError,
    NodeFailureError,
    OutOfMemoryError,
    PreemptedError,
    ResourceError,
    SubmissionError,
    TaskExecutionError,
    TaskOutputValidationError,
    TimeLimitError,
    WorkFolderError,
)
from fractal_airflow.execution.resource import BatchCall
from fractal_airflow.execution.units import ErrorKind, Outcome, UnitError
from fractal_airflow.operators.growth import Growth, grow, read_growth
from fractal_airflow.operators.retries import FAILED_TASKS_TOO, LOST_JOBS

CALL = BatchCall([{"zarr_url": f"/d/{name}"} for name in "abc"], ("run",), "/runs/b", "g1", {})


def decision(error: BaseException, policy: RetryPolicy = LOST_JOBS) -> RetryDecision:
    return policy.evaluate(error, 1, 3)


class TestPolicy:
    """What befell a job is made good; what the task itself does is not."""

    @pytest.mark.parametrize("error", [NodeFailureError, PreemptedError, OutOfMemoryError, TimeLimitError])
    def test_what_befell_a_job_is_tried_again_at_once(self, error: type[FractalAirflowError]) -> None:
        assert decision(error("x")).action == RetryAction.RETRY
        assert decision(error("x")).retry_delay == timedelta(0)

    def test_a_job_that_was_cancelled_by_hand_comes_back_in_a_while(self) -> None:
        assert decision(JobCancelledError("x")).action == RetryAction.RETRY
        assert decision(JobCancelledError("x")).retry_delay == timedelta(seconds=10)

    @pytest.mark.parametrize(
        "error", [TaskExecutionError, TaskOutputValidationError, SubmissionError, ResourceError]
    )
    def test_what_would_fail_again_is_not(self, error: type[FractalAirflowError]) -> None:
        assert decision(error("x")).action == RetryAction.FAIL

    @pytest.mark.parametrize("error", [JobExecutionError, ClusterUnreachableError, WorkFolderError, OSError])
    def test_for_others_airflows_own_settings_hold(self, error: type[Exception]) -> None:
        assert decision(error("x")).action == RetryAction.DEFAULT

    def test_failing_tasks_are_tried_again_where_the_author_wants_it(self) -> None:
        assert decision(TaskExecutionError("x"), FAILED_TASKS_TOO).action == RetryAction.DEFAULT
        assert decision(NodeFailureError("x"), FAILED_TASKS_TOO).retry_delay == timedelta(0)
        assert decision(TaskOutputValidationError("x"), FAILED_TASKS_TOO).action == RetryAction.FAIL


class StateStore(dict[str, Any]):
    """Stands in for Airflow's ``task_state_store``."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class FakeResource:
    """A resource that doubles what it is asked for, up to a factor."""

    def __init__(self, most: float, defers: bool = True) -> None:
        self.most = most
        self.defers = defers

    def with_more(self, call: BatchCall, kinds: Collection[ErrorKind]) -> BatchCall | None:
        memory = call.memory_factor * (2 if "memory" in kinds else 1)
        time = call.time_factor * (2 if "time" in kinds else 1)
        if max(memory, time) > self.most:
            return None
        return replace(call, memory_factor=memory, time_factor=time)


class TestGrowth:
    """Units that ran out of memory or time get more of it in the next try."""

    def grow(
        self,
        store: StateStore,
        *kinds: ErrorKind,
        error: FractalAirflowError,
        most: float = 8,
        **options: Any,
    ) -> None:
        context: Any = {"task_state_store": store}
        growth = read_growth(context, CALL.generation)
        call = replace(CALL, memory_factor=growth.memory, time_factor=growth.time)
        outcomes = [Outcome("failed", error=UnitError(kind, "x")) for kind in kinds]
        resource: Any = FakeResource(most, **options)
        grow(context, call, outcomes, resource, error)

    def test_the_next_try_asks_for_more_of_what_was_lacking(self) -> None:
        store = StateStore()

        self.grow(store, "memory", error=OutOfMemoryError("x"))
        assert read_growth({"task_state_store": store}, "g1") == Growth("g1", memory=2, left=1)  # type: ignore[typeddict-item]

        self.grow(store, "memory", "time", "task", error=OutOfMemoryError("x"))
        assert read_growth({"task_state_store": store}, "g1") == Growth("g1", memory=4, time=2, left=3)  # type: ignore[typeddict-item]

    def test_whoever_clears_the_task_starts_from_what_its_meta_says(self) -> None:
        store = StateStore()
        self.grow(store, "memory", error=OutOfMemoryError("x"))

        assert read_growth({"task_state_store": store}, "g2") == Growth("g2")  # type: ignore[typeddict-item]

    def test_units_that_have_all_there_is_are_not_tried_again(self) -> None:
        error = OutOfMemoryError("x")

        self.grow(store := StateStore(), "memory", error=error, most=1)

        assert decision(error).action == RetryAction.FAIL
        assert "as much as the resource allows" in str(decision(error).reason)
        assert store == {}

    def test_the_units_that_had_no_time_are_tried_again_without_those_that_had(self) -> None:
        error = TimeLimitError("x")

        self.grow(store := StateStore(), "time", "time", error=error, most=1)
        assert decision(error).action == RetryAction.RETRY
        assert read_growth({"task_state_store": store}, "g1") == Growth("g1", left=2)  # type: ignore[typeddict-item]

        self.grow(StateStore(), "time", "time", "time", error=error, most=1)
        assert decision(error).action == RetryAction.FAIL

    def test_on_this_machine_airflows_own_settings_hold(self) -> None:
        error = OutOfMemoryError("x")

        self.grow(StateStore(), "memory", error=error, defers=False)

        assert decision(error).action == RetryAction.DEFAULT

    def test_other_failures_ask_for_no_more(self) -> None:
        self.grow(store := StateStore(), "node", error=NodeFailureError("x"))

        assert store == {}
