"""The results file: a line for every unit that has ended."""

from __future__ import annotations

import json
import os
import time
from typing import Any

SYNC_SECONDS = 0.5  # results are flushed to disk at least this often, and at the end


def read_results(path: str, start: int = 0) -> dict[int, dict[str, Any]]:
    """Return the last line of each unit; a torn line, from a crash, counts as not there.

    :param start: the place in the file from which on lines count.
    """
    results = {}
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return {}
    with file:
        file.seek(start)
        for line in file:
            try:
                result = json.loads(line)
                results[int(result["index"])] = result
            except (ValueError, TypeError, KeyError):
                continue
    return results


class ResultsError(Exception):
    """The results file cannot be written."""


class Results:
    """The results file, to which lines are appended.

    :raises ResultsError: if it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._host = os.uname().nodename
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._fd).st_size
            torn = size and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise ResultsError(str(error)) from error
        if torn:
            self._write(b"\n")
        self._synced_at = time.monotonic()

    def add(self, index: int, result: dict[str, Any]) -> None:
        """Write a unit's line. The kernel has it at once; the disk has it soon.

        :param result: what is known of its end; with an ``error``, the unit failed.
        """
        line = {"index": index, "status": "failed" if "error" in result else "done", "host": self._host}
        try:
            text = json.dumps({**line, **result})
        except RecursionError:
            del result["output"]
            error = "the output file is not JSON that can be written again: it is nested too deeply"
            text = json.dumps({**line, **result, "status": "failed", "kind": "output", "error": error})
        self._write(text.encode() + b"\n")
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Have all lines on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise ResultsError(str(error)) from error
        self._synced_at = time.monotonic()

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise ResultsError(str(error)) from error
