"""More memory, or more time, for units that ran out of it: remembered from one try to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision

from fractal_airflow.exceptions import FractalAirflowError, OutOfMemoryError, TimeLimitError
from fractal_airflow.operators.retries import decide

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.execution.resource import BatchCall, Resource
    from fractal_airflow.execution.units import Outcome

STATE_KEY = "growth"


@dataclass(frozen=True)
class Growth:
    """
    How many times the usual memory and time the units of a task instance get.

    :param generation: what it holds for: whoever clears the task instance may have mended ``meta``.
    :param left: how many units are still to be run, where an earlier try has run some.
    """

    generation: str
    memory: float = 1
    time: float = 1
    left: int | None = None


def read_growth(context: Context, generation: str) -> Growth:
    """Return what earlier tries of a task instance have found to be needed."""
    stored = context["task_state_store"].get(STATE_KEY)
    if isinstance(stored, dict) and stored.get("generation") == generation:
        return Growth(**stored)  # type: ignore[arg-type]
    return Growth(generation)


def grow(
    context: Context,
    call: BatchCall,
    outcomes: Sequence[Outcome],
    resource: Resource,
    error: FractalAirflowError,
) -> None:
    """
    Have the next try ask for more, where units ran out of memory or time; note in the error if it cannot.

    :param error: what the task instance is about to fail with.
    """
    if not isinstance(error, (OutOfMemoryError, TimeLimitError)):
        return
    if not resource.defers:
        decide(error, RetryDecision.default())
        return
    left = sum(outcome.status != "done" for outcome in outcomes)
    more = resource.with_more(call, {outcome.error.kind for outcome in outcomes if outcome.error})
    if more is None and isinstance(error, TimeLimitError) and left < (call.left or len(call.units)):
        more = call  # fewer units may have time enough
    if more is None:
        reason = (
            "the units have as much as the resource allows, its factor is 1, "
            "or neither it nor the task says how much they get"
        )
        decide(error, RetryDecision.fail(f"not tried again with more: {reason}"))
        return
    growth = Growth(more.generation, more.memory_factor, more.time_factor, left)
    context["task_state_store"].set(STATE_KEY, asdict(growth))
