"""From failed units to the one error that a task instance or a step fails with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fractal_airflow.exceptions import (
    FractalAirflowError,
    JobCancelledError,
    JobExecutionError,
    NodeFailureError,
    OutOfMemoryError,
    PreemptedError,
    TaskExecutionError,
    TaskOutputValidationError,
    TimeLimitError,
)

if TYPE_CHECKING:
    from fractal_airflow.execution.units import ErrorKind, Outcome

# In the order in which another try is likely to help: the first that is there decides the class.
_ERROR_OF_KIND: dict[ErrorKind, type[FractalAirflowError]] = {
    "memory": OutOfMemoryError,
    "time": TimeLimitError,
    "node": NodeFailureError,
    "preempted": PreemptedError,
    "job": JobExecutionError,
    "cancelled": JobCancelledError,
    "task": TaskExecutionError,
    "output": TaskOutputValidationError,
}
_RANK = {kind: rank for rank, kind in enumerate(_ERROR_OF_KIND)}


def failure(step_name: str, units: Sequence[tuple[str, Outcome]]) -> FractalAirflowError | None:
    """
    Return the error of the failed units, or None: how many there are, and the first one.

    Its class is that of a unit that could succeed in another try, if there is one: Airflow then retries.

    :param units: the image that each unit was about, and how it ended.
    """
    failed = [(url, outcome.error) for url, outcome in units if outcome.error]
    if not failed:
        return None
    url, error = min(failed, key=lambda item: _RANK[item[1].kind])
    where = f" ({url})" if url else ""
    return _ERROR_OF_KIND[error.kind](
        f"{step_name}: {len(failed)} of {len(units)} units failed. First error{where}: {error.message}"
    )
