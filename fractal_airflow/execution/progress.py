"""The progress of a batch in the Airflow log: a line of how far it is, and the end of a failed unit's log."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from fractal_airflow.execution.run_folder import RESULTS_FILE, Attempt
from fractal_airflow.execution.units import outcome_from_result

LINE_SECONDS = 2.0
MOST_FAILURES_SHOWN = 10


class ResultsFollower:
    """Reads the lines of an attempt's results as they are written."""

    def __init__(self, attempt: Attempt, log: logging.Logger) -> None:
        self._attempt = attempt
        self._log = log
        self._path = attempt.folder / RESULTS_FILE
        self._status = {index: line["status"] for index, line in attempt.results().items()}
        self._done_before = sum(status == "done" for status in self._status.values())
        self._status = {index: status for index, status in self._status.items() if status == "done"}
        self._offset = self._path.stat().st_size if self._path.exists() else 0
        self._shown_failures = 0
        self._started = self._shown_at = time.monotonic()
        self._changed = False
        if self._done_before:
            log.info("%d of %d units are done since an earlier try", self._done_before, attempt.count)

    def read(self) -> None:
        """Take new lines; log failures, and now and then a line of progress."""
        for line in self._new_lines():
            self._take(line)
        if self._changed and time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._show()

    def finish(self) -> None:
        """Take the last lines and log the last line of progress."""
        for line in self._new_lines():
            self._take(line)
        self._show()

    def _new_lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [line for raw in data[:end].splitlines() if (line := _parse(raw)) is not None]

    def _take(self, line: dict[str, Any]) -> None:
        self._status[line["index"]] = line["status"]
        self._changed = True
        if line["status"] == "done":
            return
        self._shown_failures += 1
        if self._shown_failures <= MOST_FAILURES_SHOWN:
            error = outcome_from_result(line, str(self._attempt.folder)).error
            self._log.error("Unit %d failed: %s", line["index"], error.message if error else "")
        elif self._shown_failures == MOST_FAILURES_SHOWN + 1:
            self._log.error("More units failed; their logs are in %s", self._attempt.folder)

    def _show(self) -> None:
        seconds = time.monotonic() - self._started
        failed = sum(status != "done" for status in self._status.values())
        text = progress_line(len(self._status), self._attempt.count, failed, self._done_before, seconds)
        self._log.info("%s", text)
        self._shown_at = time.monotonic()
        self._changed = False


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "index" in line and "status" in line else None


def progress_line(ended: int, total: int, failed: int, ended_before: int, seconds: float) -> str:
    """Return how far a batch is.

    >>> progress_line(37, 96, 2, 0, 44.0)
    '37/96 units, 2 failed, 1 min 10 s left'

    :param ended_before: how many of the ended units an earlier try ran, in no time of this one.
    :param seconds: how long this try has run.
    """
    text = f"{ended}/{total} units"
    if failed:
        text += f", {failed} failed"
    ended_now = ended - ended_before
    if ended < total and ended_now > 0:
        text += f", {duration(seconds / ended_now * (total - ended))} left"
    return text


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
