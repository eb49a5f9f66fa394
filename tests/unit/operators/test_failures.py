from __future__ import annotations

import pytest

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
from fractal_airflow.execution.units import ErrorKind, Outcome, UnitError
from fractal_airflow.operators.failures import failure

DONE = Outcome("done")


def failed(kind: ErrorKind, message: str = "broken") -> Outcome:
    return Outcome("failed", error=UnitError(kind, message))


def test_units_that_are_all_done_are_no_error() -> None:
    assert failure("Measure", [("/a", DONE), ("/b", DONE)]) is None
    assert failure("Measure", []) is None


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("task", TaskExecutionError),
        ("job", JobExecutionError),
        ("output", TaskOutputValidationError),
        ("memory", OutOfMemoryError),
        ("time", TimeLimitError),
        ("node", NodeFailureError),
        ("preempted", PreemptedError),
        ("cancelled", JobCancelledError),
    ],
)
def test_the_error_says_how_many_of_how_many_and_the_first_one(
    kind: ErrorKind, error: type[FractalAirflowError]
) -> None:
    units = [("/a", DONE), ("/b", failed(kind, "exit code 1")), ("/c", failed(kind, "exit code 2"))]

    raised = failure("Measure", units)

    assert type(raised) is error
    assert str(raised) == "Measure: 2 of 3 units failed. First error (/b): exit code 1"


def test_a_unit_without_an_image_names_none() -> None:
    assert str(failure("Init", [("", failed("task"))])) == "Init: 1 of 1 units failed. First error: broken"


def test_a_unit_that_may_succeed_at_another_try_decides_the_class() -> None:
    units = [("/a", failed("output", "a list")), ("/b", failed("task", "exit code 1"))]

    raised = failure("Measure", units)

    assert isinstance(raised, TaskExecutionError)
    assert "First error (/b): exit code 1" in str(raised)


def test_what_another_try_is_sure_to_help_comes_before_what_it_may_help() -> None:
    units = [
        ("/a", failed("task", "exit code 1")),
        ("/b", failed("job")),
        ("/c", failed("memory", "too big")),
    ]

    assert isinstance(failure("Measure", units), OutOfMemoryError)
