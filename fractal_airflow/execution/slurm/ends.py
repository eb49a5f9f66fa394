"""From an ended job to the outcomes of its units: why each one failed, and what the job used. All of it pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from fractal_airflow.execution import runner
from fractal_airflow.execution.progress import duration
from fractal_airflow.execution.resource import BatchEnd
from fractal_airflow.execution.slurm.messages import Collected, JobRecord, Submitted
from fractal_airflow.execution.slurm.states import kind_of_end, phase_of, plain_state, traced_kind
from fractal_airflow.execution.units import ErrorKind, Outcome, UnitError, log_path, outcome_from_result

# Ends of a unit that its job's end explains: SLURM sends signals to all processes of a job.
_SIGNALS_OF_END = ("SIGTERM", "SIGKILL")

# With these the program ends, where it has come to that.
_PROGRAM_CODES = (
    runner.EXIT_UNITS_FAILED,
    runner.EXIT_WRITING_FAILED,
    runner.EXIT_LOCKED,
    runner.EXIT_TERMINATED,
)

_WHY: dict[ErrorKind, str] = {
    "memory": "it used more memory than it had asked for",
    "time": "it ran past its time limit",
    "node": "its machine failed",
    "preempted": "it had to make room for another job",
    "cancelled": "somebody cancelled it on the cluster",
}


def end_of_batch(submitted: Submitted, collected: Collected) -> BatchEnd:
    """Return what came of a batch: the results that there are, and for units without one the job's end."""
    results = {result["index"]: result for result in collected.results}
    ending = _Ending(submitted, collected)
    outcomes = [
        ending.outcome(results[index]) if index in results else ending.lost(index)
        for index in range(submitted.count)
    ]
    return BatchEnd(
        submitted.folder,
        outcomes,
        usage=usage_of(collected, outcomes) if submitted.job else None,
        cancelled_by=collected.cancelled_by,
        taken=collected.taken,
    )


class _Ending:
    """How a job ended, for the units that it took along. Only the first of them is told all about it."""

    def __init__(self, submitted: Submitted, collected: Collected) -> None:
        self._folder = submitted.folder
        self._job_id = submitted.job.id if submitted.job else ""
        self._collected = collected
        self._kind = kind_of_job(collected)
        self._told = False

    def outcome(self, result: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a unit with a result; one that was killed may have been so with its job."""
        killed = result.get("kind") == "job" and result.get("signal") in _SIGNALS_OF_END
        if not killed or self._kind in (None, "job"):
            return outcome_from_result(result, self._folder)
        explained = {**result, "kind": self._kind, "error": f"{result['error']}: {self._explain()}"}
        return outcome_from_result(explained, self._folder)

    def lost(self, index: int) -> Outcome:
        """Return the outcome of a unit without a result."""
        log = log_path(self._folder, index)
        tail = self._collected.log_tails.get(str(index))
        message = f"no result: {self._explain()}"
        if never_began(self._collected):
            message += f" (see slurm-{self._job_id}.err and slurm-{self._job_id}.out in {self._folder})"
        else:
            message += f"\nLast lines of {log}:\n{tail}" if tail else f" (log: {log})"
        job = self._collected.job
        host = job.nodes if job and job.nodes else None
        return Outcome("failed", None, UnitError(self._kind or "job", message), log, host=host)

    @cached_property
    def _description(self) -> str:
        return describe_end(self._job_id, self._collected, self._kind)

    def _explain(self) -> str:
        if self._told or not self._collected.stderr_tail:
            return self._description
        self._told = True
        return f"{self._description}\nLast lines of the job's stderr:\n{self._collected.stderr_tail}\n"


def kind_of_job(collected: Collected) -> ErrorKind | None:
    """Return what the end of a job means for its units without a result; None if the job ended well."""
    state = collected.job.state if collected.job else None
    if state is None and collected.exit == 0:
        return None
    if state is None and collected.cancelled_by is not None:
        return "cancelled"
    if collected.exit == runner.EXIT_TERMINATED and state is None:
        return traced_kind(collected.stderr_tail) or "job"
    return kind_of_end(state, collected.stderr_tail)


def describe_end(job_id: str, collected: Collected, kind: ErrorKind | None) -> str:
    """Return how a job ended, and what it had asked for and used, in a few sentences."""
    how, use = _how(job_id, collected, kind), use_in_words(collected)
    return f"{how}{' ' if how.endswith('?') else '. '}{use}" if use else how


def _how(job_id: str, collected: Collected, kind: ErrorKind | None) -> str:
    job = collected.job
    if job is None or job.state is None:
        ended = f"its job {job_id} is gone: SLURM does not know it any more"
        codes = "" if collected.exit is None else f"exit code {collected.exit}"
    else:
        ended = f"its job {job_id} {_state_words(job)}"
        codes = _codes(job, collected.exit)
    why = _WHY.get(kind) if kind else "but its results have not shown up: is the work folder a shared one?"
    if never_began(collected):
        why = " ".join(filter(None, [why, "No unit has begun: did worker_init end the script?"]))
    if kind == "cancelled" and collected.cancelled_by:
        why = f"cancelled by {collected.cancelled_by}"
    text = f"{ended} ({codes})" if codes else ended
    return f"{text}: {why}" if why else text


def never_began(collected: Collected) -> bool:
    """Tell whether a job's script ended by itself, and did so before the program that runs units."""
    job = collected.job
    if job is None or job.state is None or job.signal or job.exit_code in _PROGRAM_CODES:
        return False
    traces = (collected.results, collected.log_tails, collected.usage)
    return (
        plain_state(job.state) in ("COMPLETED", "FAILED")
        and kind_of_job(collected) in (None, "job")
        and collected.exit is None
        and not any(traces)
    )


def _state_words(job: JobRecord) -> str:
    state = plain_state(job.state or "")
    where = f" on {job.nodes}" if job.nodes else ""
    after = f" after {duration(job.seconds)}" if job.seconds else ""
    phase = phase_of(state)
    if phase is None:
        return f"was in a state that is not known here, {job.state}{where}, and was given up"
    if phase != "ended":
        return f"was still {state}{where}{after}, and was given up"
    return f"ended {state}{where}{after}"


def _codes(job: JobRecord, own: int | None) -> str:
    code = own if own is not None else job.exit_code
    parts = [f"exit code {code}"] if code is not None else []
    parts += [f"signal {job.signal}"] if job.signal else []
    parts += [f"reason {job.reason}"] if job.reason not in ("", "None", "NonZeroExitCode") else []
    return ", ".join(parts)


def usage_of(collected: Collected, outcomes: list[Outcome]) -> dict[str, Any] | None:
    """Return what a job had asked for and what it used, where that is known; None if nothing is."""
    job, measured = collected.job or JobRecord(), collected.usage or {}
    peaks = [outcome.max_rss_mb for outcome in outcomes if outcome.max_rss_mb is not None]
    requested = {"mem_mb": job.requested_mem_mb, "cpus": job.requested_cpus, "time_s": job.time_limit}
    times = [seconds for seconds in (job.seconds, measured.get("seconds")) if seconds is not None]
    used = {
        "max_unit_rss_mb": max(peaks, default=None),
        "job_max_rss_mb": measured.get("max_rss_mb") or job.max_rss_mb,
        "cpu_s": measured.get("cpu_seconds"),
        "wall_s": max(times, default=None),  # SLURM counts in whole seconds
    }
    usage = {
        name: known
        for name, values in (("requested", requested), ("used", used))
        if (known := {key: value for key, value in values.items() if value is not None})
    }
    return usage or None


def use_in_words(collected: Collected) -> str:
    """Return what a job had asked for and used, as far as that is known, for an error."""
    usage = usage_of(collected, [outcome_from_result(result, "") for result in collected.results])
    line = usage_line(usage)
    return line[:1].upper() + line[1:]


def usage_line(usage: Mapping[str, Any] | None) -> str:
    """Return what a job had asked for and used, for people.

    >>> usage_line({"requested": {"mem_mb": 4000, "cpus": 2}, "used": {"job_max_rss_mb": 812.4}})
    'requested 4000 MB, used 812 MB at most; requested 2 cores'
    """
    requested, used = (usage or {}).get("requested", {}), (usage or {}).get("used", {})
    wall_s, cpu_s, unit_mb = used.get("wall_s"), used.get("cpu_s"), used.get("max_unit_rss_mb")
    mem = used.get("job_max_rss_mb")
    memory_used = f"used {_mb(mem)} at most" if mem is not None else ""
    if unit_mb is not None:
        memory_used += f" (a unit {_mb(unit_mb)})" if memory_used else f"a unit used {_mb(unit_mb)} at most"
    cores_used = f"used {cpu_s / wall_s:.1f} of them" if cpu_s is not None and wall_s else ""
    cpus = requested.get("cpus")
    parts = [
        _pair(_mb(requested.get("mem_mb")), memory_used),
        _pair(f"{cpus} core{'s' if cpus > 1 else ''}" if cpus else "", cores_used if cpus else ""),
        _pair(_time(requested.get("time_s")), f"took {duration(wall_s)}" if wall_s else ""),
    ]
    return "; ".join(filter(None, parts))


def _pair(requested: str, used: str) -> str:
    return ", ".join(filter(None, [requested and f"requested {requested}", used]))


def _mb(amount: float | None) -> str:
    return "" if amount is None else f"{amount:.0f} MB"


def _time(seconds: float | None) -> str:
    return duration(seconds) if seconds else ""
