"""From failed units to the one error that a task instance or a step fails with."""

from __future__ import annotations

from collections.abc import Sequence

from fractal_airflow.exceptions import (
    FractalAirflowError,
    JobExecutionError,
    TaskExecutionError,
    TaskOutputValidationError,
)
from fractal_airflow.execution.units import Outcome

_ERROR_OF_KIND: dict[str, type[FractalAirflowError]] = {
    "task": TaskExecutionError,
    "job": JobExecutionError,
    "output": TaskOutputValidationError,
}


def raise_for_failures(step_name: str, zarr_urls: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """
    Raise the error of the failed units, if there are any: how many, and the first one.

    The class is that of the first unit that could succeed in another try, so that Airflow's retries run.
    """
    failed = [(index, outcome.error) for index, outcome in enumerate(outcomes) if outcome.error]
    if not failed:
        return
    index, error = min(failed, key=lambda item: item[1].kind == "output")
    where = f" ({zarr_urls[index]})" if len(zarr_urls) == len(outcomes) else ""
    raise _ERROR_OF_KIND[error.kind](
        f"{step_name}: {len(failed)} of {len(outcomes)} units failed. First error{where}: {error.message}"
    )
