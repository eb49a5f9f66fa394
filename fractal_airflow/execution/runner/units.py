"""A unit from its start to its end, and what its end says."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from typing import Any, NamedTuple

from .batch import Batch
from .log_warnings import log_warnings
from .memory import is_full, oom_kills
from .text import has_nul, plain_text

LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 4000


class Ended(NamedTuple):
    """The end of a unit.

    :param unit: its index.
    :param status: as ``wait`` gives it.
    :param log_start: the place in its log where this try began.
    :param problem: why it could not even be started.
    :param oom_kills: how many processes around it the kernel killed for want of memory while it ran.
    """

    unit: int
    status: int = 0
    log_start: int = 0
    measures: dict[str, Any] = {}  # noqa: RUF012
    problem: str | None = None
    oom_kills: int = 0


class Unit:
    """A unit that runs in a child of this process."""

    def __init__(self, index: int, log_start: int) -> None:
        self.index = index
        self._log_start = log_start
        self._started_at = time.time()
        self._clock = time.monotonic()
        self._oom_kills = oom_kills()

    def ended(self, status: int, usage: resource.struct_rusage) -> Ended:
        """Return how it ended and what it used."""
        measures = {
            "seconds": round(time.monotonic() - self._clock, 4),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 4),
            "max_rss_mb": round(usage.ru_maxrss / 1024, 1),
            "started_at": round(self._started_at, 3),
        }
        kills = oom_kills() - self._oom_kills if status else 0
        return Ended(self.index, status, self._log_start, measures, oom_kills=kills)


def result_of(batch: Batch, ended: Ended) -> dict[str, Any]:
    """Return what the results file says of a unit that has ended."""
    if ended.problem is not None:
        return {"kind": "job", "error": ended.problem}
    result: dict[str, Any]
    code = os.WEXITSTATUS(ended.status) if os.WIFEXITED(ended.status) else None
    if code == 0:
        result = {"exit_code": 0, **read_output(batch.output_path(ended.unit))}
    elif code is not None:
        result = {"exit_code": code, "kind": "task", "error": f"the task ended with exit code {code}"}
    else:
        result = killed(os.WTERMSIG(ended.status), batch, ended)
    if "error" in result:
        result["log_tail"] = log_tail(batch.log_path(ended.unit), ended.log_start)
    warnings = log_warnings(batch.log_path(ended.unit), ended.log_start)
    if warnings:
        result["warnings"] = warnings
    return {**result, **ended.measures}


def killed(number: int, batch: Batch, ended: Ended) -> dict[str, Any]:
    """Return the part of a result that says which signal ended the unit, and why."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    error = f"killed by {name} on {os.uname().nodename}"
    if number != signal.SIGKILL:
        return {"signal": name, "kind": "job", "error": error}
    used_mb = ended.measures["max_rss_mb"]
    if ended.oom_kills or is_full(used_mb, batch.mem_mb):
        asked = f" of the {batch.mem_mb:.0f} MB that it may use" if batch.mem_mb else ""
        error += f", out of memory: it used {used_mb:.0f} MB at most{asked}"
        return {"signal": name, "kind": "memory", "error": error}
    return {"signal": name, "kind": "job", "error": f"{error} (out of memory, or killed by someone)"}


def read_output(path: str) -> dict[str, Any]:
    """Return the part of a result that the out file gives: its content, or why it is none."""
    try:
        # Without waiting: a pipe in the file's place has nobody who writes.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            text = file.read()
        output = json.loads(text, parse_constant=_refuse_constant)
        if b"\\ud" in text.lower():  # half a character may be among them: no file and no database takes it
            json.dumps(output, ensure_ascii=False).encode()
        if b"\\u0000" in text and has_nul(output):
            raise ValueError("it has a NUL in it, which no database takes")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"kind": "output", "error": f"the output file cannot be read: {error}"}
    except (ValueError, RecursionError) as error:
        return {"kind": "output", "error": f"the output file {path} is not JSON: {error}"}
    return {} if output is None else {"output": output}


def _refuse_constant(name: str) -> None:
    # Python reads and writes NaN and Infinity; JSON has none, and a database may refuse what holds them.
    raise ValueError(f"it has {name} in it")


def log_tail(path: str, start: int = 0) -> str:
    """Return the last lines of a log file, from the place where a unit's own try begins."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(start, size - LOG_TAIL_BYTES)
            file.seek(begin)
            lines = plain_text(file.read(LOG_TAIL_BYTES)).rstrip().splitlines()
    except OSError:
        return ""
    if begin > start:
        lines = lines[1:] or lines  # the first one is cut
    return "\n".join(lines[-LOG_TAIL_LINES:])
