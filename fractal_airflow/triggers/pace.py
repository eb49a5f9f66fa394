"""When to ask a cluster next: soon after news, then ever more seldom, and seldom while it does not answer."""

from __future__ import annotations

FIRST_PAUSE_S = 0.5
NEWS_PAUSE_S = 1.0
MOST_EARLY_POLLS = 30.0
LONGEST_FAILURE_PAUSE_S = 60.0


class Pace:
    """
    The times of polls. It knows no clock: whoever asks says what time it is.

    A job that was just submitted, or has just changed its state, may soon change again: the next polls come
    after 1, 2, 4 s …, until the pause is the poll interval; and one comes when the last unit of a job should
    have ended. Such early polls are a credit that grows slowly, so that a crowd of short jobs cannot keep a
    controller busy: on average there are at most two in an interval.

    :param interval_s: the pause while nothing happens.
    """

    def __init__(self, interval_s: float, now: float) -> None:
        self.interval_s = interval_s
        self.due = now
        self._pause_s = FIRST_PAUSE_S
        self._failure_pause_s = 0.0
        self._credit = MOST_EARLY_POLLS
        self._polled_at = now

    @property
    def failing(self) -> bool:
        """Whether the last poll failed."""
        return self._failure_pause_s > 0

    def news(self, now: float) -> None:
        """Take note of a new job."""
        self._pause_s = min(self._pause_s, NEWS_PAUSE_S)
        if not self.failing:
            self.due = min(self.due, now + self._next_pause())

    def polled(self, now: float, *, news: bool, ends_in_s: float | None = None) -> None:
        """
        Take note of a poll that was answered.

        :param news: whether a job has changed its state.
        :param ends_in_s: when a job should be at its end, if its units go on as they did.
        """
        self._failure_pause_s = 0.0
        self._credit += 2 * (now - self._polled_at) / self.interval_s - 1
        self._credit = min(MOST_EARLY_POLLS, max(0.0, self._credit))
        self._polled_at = now
        if news:
            self._pause_s = NEWS_PAUSE_S
        self.due = now + self._next_pause()
        if ends_in_s is not None and self._credit >= 1:
            self.due = min(self.due, now + max(FIRST_PAUSE_S, ends_in_s))
        self._pause_s = min(2 * self._pause_s, self.interval_s)

    def failed(self, now: float, *, least_s: float = 0.0) -> None:
        """
        Take note of a poll that was not answered.

        :param least_s: the least pause that the cluster asks for.
        """
        self._failure_pause_s = min(LONGEST_FAILURE_PAUSE_S, max(1.0, 2 * self._failure_pause_s))
        self._pause_s = NEWS_PAUSE_S
        self.due = now + max(self._failure_pause_s, least_s)

    def _next_pause(self) -> float:
        return min(self._pause_s, self.interval_s) if self._credit >= 1 else self.interval_s
