"""What a whole batch uses: time, CPU time, and the most memory at a time."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from typing import Any

from .job import job_id
from .memory import resident_mb_below

USAGE_FILE = "usage.json"
SAMPLE_SECONDS = 2.0
FIRST_SAMPLE_SECONDS = 0.5
NEWS = 1.1  # the file is written anew when the peak has grown by as much: whoever is killed cannot tell


class Usage:
    """Watches what a batch uses, and keeps a file of it.

    :param folder: the attempt's.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, USAGE_FILE)
        self._clock = time.monotonic()
        self._next_sample = self._clock + FIRST_SAMPLE_SECONDS
        self._peak_mb = 0.0
        self._written_mb = 0.0
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def sample(self) -> None:
        """Look at the memory, if it is time for it."""
        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            self.saw(resident_mb_below())

    def saw(self, mb: float) -> None:
        """Take it that as much memory was used at a time."""
        self._peak_mb = max(self._peak_mb, mb)
        if self._peak_mb > NEWS * self._written_mb and time.monotonic() > self._clock + FIRST_SAMPLE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the file; a full disk is no reason to fail."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        usage: dict[str, Any] = {
            "job_id": job_id(),
            "seconds": round(time.monotonic() - self._clock, 3),
            "cpu_seconds": round(sum(each.ru_utime + each.ru_stime for each in used), 3),
            "max_rss_mb": round(self._peak_mb, 1),
        }
        self._written_mb = self._peak_mb
        with contextlib.suppress(OSError):
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                json.dump(usage, file)
            os.replace(f"{self._path}.new", self._path)
