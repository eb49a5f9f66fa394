"""What is run and what came of it: the work of one batch, and the outcome of each of its units.

Also the small form in which the outcomes of a batch travel as an Airflow XCom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

Status = Literal["done", "failed"]
ErrorKind = Literal["task", "job", "output", "memory", "time", "node", "preempted", "cancelled"]

XCOM_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Work:
    """The units of one batch, and how to run them.

    :param command: an argument list, never shell text; ``--args-json`` and ``--out-json`` are added to it.
    :param units: the complete arguments of each unit, as they go into its args file.
    :param parallel: how many units run at a time.
    :param warm_start: whether units may start from a process that has imported their modules.
    """

    command: tuple[str, ...]
    units: list[dict[str, Any]]
    parallel: int = 1
    warm_start: bool = True

    def batch_file(self) -> dict[str, Any]:
        """Return what the runner reads: all but the arguments, which have files of their own."""
        return {
            "version": 1,
            "command": list(self.command),
            "count": len(self.units),
            "parallel": self.parallel,
            "warm_start": self.warm_start,
        }

    @property
    def script_python(self) -> str:
        """The Python of a command ``PYTHON SCRIPT.py``, under which its units can start warm; else empty."""
        program, *rest = self.command
        is_script = rest and rest[0].endswith(".py") and PurePosixPath(program).name.startswith("python")
        return program if is_script else ""


@dataclass(frozen=True)
class UnitError:
    """Why a unit failed.

    ``task``: the task exited with an error. ``output``: it ended well, but what it wrote is no valid output.
    ``job``: it was killed, could not be started, or its runner died, and nobody knows more than that.
    Of a job, where it is known: ``memory``, it used more than it had asked for; ``time``, it ran past its
    limit; ``node``, its machine failed; ``preempted``, it had to make room for another; ``cancelled``.
    """

    kind: ErrorKind
    message: str


@dataclass(frozen=True)
class Outcome:
    """How one unit ended.

    :param output: the parsed out file; None where it is missing or holds ``null``.
    :param log: path of the unit's own log file, on the machine that ran it.
    :param cpu_seconds: user and system time of the unit's process and of the children it waited for.
    :param max_rss_mb: peak resident memory of the unit's process; modules that a warm start imported for
        it count as its own, although they share their memory with the other units.
    :param started_at: POSIX time.
    :param warnings: the first few warnings of its log.
    """

    status: Status
    output: Any = None
    error: UnitError | None = None
    log: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    max_rss_mb: float | None = None
    host: str | None = None
    started_at: float | None = None
    warnings: tuple[str, ...] = ()


def log_path(folder: str, index: int) -> str:
    """Return the path of a unit's log file in an attempt folder."""
    return str(PurePosixPath(folder) / f"{index}-log.txt")


def rejected(outcome: Outcome, message: str) -> Outcome:
    """Return a good outcome as a failed one, for an output that breaks the schema of task outputs."""
    error = UnitError("output", f"{message} (log: {outcome.log})")
    return replace(outcome, status="failed", output=None, error=error)


def outcome_from_result(result: Mapping[str, Any], folder: str) -> Outcome:
    """Turn a line of ``results.jsonl`` into an outcome.

    :param folder: the attempt folder that the line is from.
    """
    log = log_path(folder, result["index"])
    error = None
    if result["status"] != "done":
        error = UnitError(result.get("kind", "job"), _error_message(result, log))
    measured = {key: result.get(key) for key in _MEASURES}
    warnings = tuple(result.get("warnings", ()))
    return Outcome(
        "failed" if error else "done", result.get("output"), error, log, **measured, warnings=warnings
    )


def outcomes_of(results: Mapping[int, Mapping[str, Any]], folder: str, count: int) -> list[Outcome]:
    """Return the outcome of each unit of an attempt; a unit without a result failed in its job.

    :param results: the last line of ``results.jsonl`` of each unit that has one.
    """
    lost = UnitError("job", "no result: it was not started, or its runner died before it ended")
    return [
        outcome_from_result(results[index], folder)
        if index in results
        else Outcome("failed", error=lost, log=log_path(folder, index))
        for index in range(count)
    ]


_MEASURES = ("seconds", "cpu_seconds", "max_rss_mb", "host", "started_at")


def _error_message(result: Mapping[str, Any], log: str) -> str:
    message = str(result.get("error") or "failed without a reason")
    tail = result.get("log_tail")
    return f"{message}\nLast lines of {log}:\n{tail}" if tail else f"{message} (log: {log})"


def dump_outcomes(
    outcomes: Sequence[Outcome], folder: str, *, limit_bytes: int = XCOM_LIMIT_BYTES
) -> dict[str, Any]:
    """Return the small JSON form of a batch's outcomes, in the order of its units.

    What follows from the folder (the log paths) is left out, and so are empty outputs; above the limit
    only the folder is named, with the errors that are not in there, and :func:`load_outcomes` reads the
    results from there.
    """
    hosts = {outcome.host for outcome in outcomes}
    host = hosts.pop() if len(hosts) == 1 else None
    items = [_dump_outcome(outcome, host) for outcome in outcomes]
    data = {"folder": folder, "count": len(items), **({"host": host} if host else {}), "outcomes": items}
    if len(json.dumps(data)) <= limit_bytes:
        return data
    return {"folder": folder, "count": len(items), **_errors_of_jobs(outcomes, limit_bytes)}


def _errors_of_jobs(outcomes: Sequence[Outcome], limit_bytes: int) -> dict[str, Any]:
    """Return the errors of units that left no result, since no folder knows them; as many as there is room for."""
    errors: dict[str, list[str]] = {}
    room = limit_bytes // 2
    for index, outcome in enumerate(outcomes):
        if outcome.error is not None and outcome.started_at is None:
            errors[str(index)] = [outcome.error.kind, outcome.error.message]
            room -= len(json.dumps(errors[str(index)]))
            if room < 0:
                break
    return {"errors": errors} if errors else {}


def _dump_outcome(outcome: Outcome, common_host: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {key: getattr(outcome, key) for key in _MEASURES}
    if data["host"] == common_host:
        del data["host"]
    data = {key: value for key, value in data.items() if value is not None}
    if outcome.output not in (None, {}):
        data["output"] = outcome.output
    if outcome.error is not None:
        data["error"] = [outcome.error.kind, outcome.error.message]
    if outcome.warnings:
        data["warnings"] = list(outcome.warnings)
    return data


def load_outcomes(
    data: Mapping[str, Any], *, read_outcomes: Callable[[str, int], list[Outcome]]
) -> list[Outcome]:
    """Return the outcomes that :func:`dump_outcomes` wrote.

    :param read_outcomes: reads the results of a folder, given it and the number of units
        (:meth:`Resource.read_outcomes`); called where the XCom holds no more than the folder.
    """
    folder = str(data["folder"])
    if "outcomes" not in data:
        outcomes = read_outcomes(folder, int(data["count"]))
        for index, error in data.get("errors", {}).items():
            if outcomes[int(index)].error:
                outcomes[int(index)] = replace(outcomes[int(index)], error=UnitError(*error))
        return outcomes
    return [
        _load_outcome(item, log_path(folder, index), data.get("host"))
        for index, item in enumerate(data["outcomes"])
    ]


def _load_outcome(item: Mapping[str, Any], log: str, common_host: str | None) -> Outcome:
    error = UnitError(*item["error"]) if "error" in item else None
    measured = {"host": common_host} | {key: item[key] for key in _MEASURES if key in item}
    warnings = tuple(item.get("warnings", ()))
    return Outcome(
        "failed" if error else "done", item.get("output"), error, log, **measured, warnings=warnings
    )
