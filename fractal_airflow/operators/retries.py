"""Which failures are tried again: of units, after what befell their job, and not of what cannot succeed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from fractal_airflow.exceptions import (
    ClusterNotReadyError,
    DatasetStoreError,
    EmptyImageListError,
    FractalAirflowError,
    ImageListError,
    JobCancelledError,
    NodeFailureError,
    OutOfMemoryError,
    PreemptedError,
    ResourceError,
    SubmissionError,
    TaskExecutionError,
    TaskOutputValidationError,
    TimeLimitError,
    WorkflowError,
    WorkFolderError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

DEFAULT_RETRIES = 3
"""How often what befell a job is made good, where the author of a DAG has said nothing of retries."""

AT_ONCE = timedelta(0)
CANCELLED_PAUSE = timedelta(seconds=10)
CLUSTER_PAUSE = timedelta(minutes=1)

_CANNOT_SUCCEED = [
    RetryRule(exception=WorkFolderError, action=RetryAction.DEFAULT),
    RetryRule(
        exception=[
            WorkflowError,
            ImageListError,
            EmptyImageListError,
            TaskOutputValidationError,
            ResourceError,
            SubmissionError,
        ],
        action=RetryAction.FAIL,
        reason="trying again would end the same way",
    ),
]
_FAILED_TASK = RetryRule(
    exception=TaskExecutionError,
    action=RetryAction.FAIL,
    reason="the task itself failed, and would fail again; retry_failed_tasks=True tries it again all the same",
)
_LOST_JOBS = [
    RetryRule(
        exception=[NodeFailureError, PreemptedError],
        retry_delay=AT_ONCE,
        reason="the units are not to blame: they are run again at once",
    ),
    RetryRule(
        exception=[OutOfMemoryError, TimeLimitError],
        retry_delay=AT_ONCE,
        reason="the units that failed are run again at once, with more of what they lacked",
    ),
    RetryRule(
        exception=JobCancelledError,
        retry_delay=CANCELLED_PAUSE,
        reason="the job was cancelled on the cluster; to stop for good, mark this task instance as failed",
    ),
]


class RunRetryPolicy(ExceptionRetryPolicy):
    """
    The policy of the tasks that run units: an error may say itself what another try would do.

    See :func:`retry_with`.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide whether the task instance is tried again, and when."""
        decision: RetryDecision | None = getattr(exception, _DECISION, None)
        return decision or super().evaluate(exception, try_number, max_tries, context)


_DECISION = "_fractal_retry_decision"


def decide(error: BaseException, decision: RetryDecision) -> None:
    """Note in an error what is known to be the right decision about it, whatever its class says."""
    setattr(error, _DECISION, decision)


NOT_WHAT_CANNOT_SUCCEED = ExceptionRetryPolicy(rules=_CANNOT_SUCCEED)
"""For tasks that run no units."""

ONLY_THE_STORE = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=DatasetStoreError, action=RetryAction.DEFAULT),
        RetryRule(
            exception=ClusterNotReadyError,
            retry_delay=CLUSTER_PAUSE,
            reason="the cluster does not answer: it holds results, or jobs that nobody wants any more",
        ),
        RetryRule(
            exception=FractalAirflowError,
            action=RetryAction.FAIL,
            reason="only the dataset store, or the cluster, can be better at another try",
        ),
    ]
)
"""For tasks that take stock of what has happened: merges, and the report of a run."""

LOST_JOBS = RunRetryPolicy(rules=[*_CANNOT_SUCCEED, _FAILED_TASK, *_LOST_JOBS])
"""For tasks that run units: what befell their job is made good, a task that fails is not tried again."""

FAILED_TASKS_TOO = RunRetryPolicy(rules=[*_CANNOT_SUCCEED, *_LOST_JOBS])
"""The same, and tasks that fail are tried again after Airflow's ``retry_delay``, as ``retries`` says."""
