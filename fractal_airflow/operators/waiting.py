"""How long a task instance has waited for its cluster: travels with its triggers from process to process."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowTaskTimeout

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
MOST_STARTS_OVER = 3


@dataclass(frozen=True)
class Waiting:
    """
    What is known from one process of a task instance to the next.

    :param deadline: the POSIX time at which ``execution_timeout`` is over: Airflow itself does not count the
        time that a task is deferred.
    :param pause_s: how long the last pause before a submission was.
    :param starts_over: how often a job was submitted again that one of us had cancelled.
    """

    deadline: float | None = None
    pause_s: float = 0.0
    starts_over: int = 0

    @classmethod
    def until(cls, timeout: timedelta | None) -> Waiting:
        """Return the beginning: nothing was waited for yet."""
        return cls(None if timeout is None else time.time() + timeout.total_seconds())

    @property
    def may_start_over(self) -> bool:
        """Whether a job that was cancelled may be submitted once more."""
        return self.starts_over < MOST_STARTS_OVER

    def started_over(self) -> Waiting:
        """Return what is so after one more job was cancelled."""
        return replace(self, starts_over=self.starts_over + 1)

    def paused(self, least_s: float) -> tuple[Waiting, float]:
        """
        Return what is so after one more pause, and the POSIX time at which it ends.

        :param least_s: the least pause that the cluster asks for.
        """
        pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self.pause_s, least_s))
        until = time.time() + pause_s
        if self.deadline is not None and not self.is_over:
            until = min(until, self.deadline)
        return replace(self, pause_s=pause_s), until

    def answered(self) -> Waiting:
        """Return what is so after the cluster has answered: the next pause is a short one."""
        return replace(self, pause_s=0.0)

    @property
    def is_over(self) -> bool:
        """Whether the time of the task is over."""
        return self.deadline is not None and time.time() >= self.deadline

    def to_json(self) -> dict[str, Any]:
        """Return it as a trigger keeps it."""
        return asdict(self)


def timeout_error(step_name: str, error: Exception | None = None) -> AirflowTaskTimeout:
    """
    Return the error that Airflow itself raises for a task that is not deferred.

    :param error: why nobody could make sure that the job is cancelled.
    """
    job = f"its job may go on: {error}" if error else "its job was cancelled"
    return AirflowTaskTimeout(f"{step_name}: execution_timeout is over; {job}")
