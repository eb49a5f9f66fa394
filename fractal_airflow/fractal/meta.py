"""How a task is to run: the ``meta`` of manifests and workflow tasks."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from fractal_airflow.fractal.slurm_options import check_extra_line

MB_PER_UNIT = {"K": 0.001, "M": 1, "G": 1000, "T": 1_000_000}

MOST_MB = 1_000_000_000  # no machine has a petabyte
UNLIMITED = 0  # seconds; SLURM, too, takes a limit of zero for none

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", re.IGNORECASE | re.ASCII)
_TIME = re.compile(
    r"""(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?
    | (?P<hours2>\d+):(?P<minutes2>\d+):(?P<seconds2>\d+)
    | (?P<minutes3>\d+)(:(?P<seconds3>\d+))?""",
    re.VERBOSE | re.ASCII,
)
_SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_GPUS = re.compile(r"(?:[\w.-]+:)?\d+(?:,(?:[\w.-]+:)?\d+)*", re.ASCII)
_GRES = re.compile(r"[A-Za-z_][\w./-]*(?::[\w.-]+)?(?::\d+[KMGTP]?)?", re.ASCII | re.IGNORECASE)
_NODES = re.compile(r"0*[1-9]\d*[km]?(?:-0*[1-9]\d*[km]?)?", re.ASCII | re.IGNORECASE)


def effective_meta(
    manifest_meta: Mapping[str, Any] | None, workflow_meta: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    Return how a task is to run: what the manifest says, overlaid with what the workflow says.

    ``mem`` becomes MB. A key whose value is null says nothing, and takes away what the manifest said.

    :raises ValueError: where ``mem`` is no amount of memory.
    """
    meta = {**(manifest_meta or {}), **(workflow_meta or {})}
    meta = {key: value for key, value in meta.items() if value is not None}
    if "mem" in meta:
        meta["mem"] = parse_memory(meta["mem"])
    return meta


def check_meta(meta: Mapping[str, Any] | None, *, where: str) -> list[str]:
    """
    Return all that is wrong with the keys that say how to run; other keys are kept, and ignored.

    Not so a key that is one of them but for its spelling: it would be missed.

    :param where: the field, such as ``meta_parallel``.
    """
    problems = []
    for key, value in (meta or {}).items():
        check = _CHECKS.get(key)
        if check is None and (meant := _mistyped(key)):
            keys = ", ".join(sorted(_CHECKS.keys() - {"account"}))
            problems.append(f"{where}.{key}: did you mean {meant!r}? The keys that say how to run: {keys}")
        if check is None or (value is None and key != "account"):
            continue
        try:
            check(value)
        except ValueError as error:
            problems.append(f"{where}.{key}: {error}")
    return problems


def parse_memory(value: object) -> int:
    """
    Return an amount of memory in MB, from MB or a text such as ``"4G"``.

    :raises ValueError: where it is neither.
    """
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if match:
        # Counted in thousands, as Fractal does; less than a MB is one.
        mb = float(match[1]) * MB_PER_UNIT[match[2].upper() or "M"]
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        mb = value
    else:
        mb = 0
    if not 0 < mb <= MOST_MB:
        raise ValueError(f'{value!r} is no amount of memory: give MB, such as 4000, or a text such as "4G"')
    return math.ceil(mb)


def parse_time(value: object) -> int:
    """
    Return a time limit in seconds, from minutes or one of SLURM's spellings.

    >>> parse_time(90), parse_time("01:30:00"), parse_time("1-12"), parse_time("UNLIMITED")
    (5400, 5400, 129600, 0)

    :raises ValueError: where it is neither.
    """
    seconds = 0
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value * 60
    elif isinstance(value, str):
        if value.strip().upper() in ("UNLIMITED", "INFINITE"):
            return UNLIMITED
        check_text(value)
        match = _TIME.fullmatch(value.strip())
        parts = match.groupdict() if match else {}
        seconds = sum(int(part) * _SECONDS[name.rstrip("23")] for name, part in parts.items() if part)
    if seconds <= 0:
        raise ValueError(
            f"{value!r} is no time limit: give minutes, such as 90, or a text such as "
            '"90", "90:00" (MM:SS), "01:30:00", "1-12" (D-HH), "1-12:30", "1-12:30:00" or "UNLIMITED"'
        )
    return seconds


def check_gpus(value: object) -> None:
    """
    Check how many GPUs a job is to have: a number, or a text such as ``"a100:2"``.

    :raises ValueError: where it is neither.
    """
    if not isinstance(value, str):
        _check_count(value)
    elif not _GPUS.fullmatch(value):
        raise ValueError(f'{value!r} is no number of GPUs: give one, such as 2, or a text such as "a100:2"')


def check_gres(value: object) -> None:
    """
    Check generic resources: ``NAME``, ``NAME:COUNT`` or ``NAME:TYPE:COUNT``, separated by commas.

    :raises ValueError: where it is anything else.
    """
    check_text(value)
    if not all(_GRES.fullmatch(item) for item in str(value).split(",")):
        raise ValueError(
            f'{value!r} names no generic resources: give them as "gpu:1" or "gpu:a100:1,shard:2"'
        )


def check_nodes(value: object) -> None:
    """
    Check a number of nodes: one, or a text such as ``"1-2"``.

    :raises ValueError: where it is neither.
    """
    if not isinstance(value, str):
        _check_count(value)
    elif not _NODES.fullmatch(value):
        raise ValueError(f'{value!r} is no number of nodes: give one, such as 1, or a text such as "1-2"')


def check_extra_lines(value: object) -> None:
    """
    Check lines that are added to a job script.

    :raises ValueError: where they are no lines, or ``#SBATCH`` lines that SLURM would not take.
    """
    if not isinstance(value, list):
        raise ValueError(f"{value!r} must be a list of texts")
    for line in value:
        check_text(line)
        check_extra_line(line)


def _mistyped(key: str) -> str | None:
    """Return the key that was meant, where that is beyond doubt."""
    plain = {name.replace("_", "").rstrip("s"): name for name in _CHECKS if name != "account"}
    written = key.lower().replace("_", "").replace("-", "").rstrip("s")
    near = difflib.get_close_matches(written, plain, 1, cutoff=0.9)
    return plain[near[0]] if near else None


def _check_account(value: object) -> None:
    raise ValueError("accounts do not belong to a workflow: set the account in the resource, or in the run")


def _check_count(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} must be a whole number of at least 1")


def _check_boolean(value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} must be true or false")


def check_text(value: object) -> None:
    """
    Check a text of one line.

    :raises ValueError: where it is anything else.
    """
    # These become options of a batch script, a line each.
    if not isinstance(value, str) or not value.strip() or any(end in value for end in "\n\r\0"):
        raise ValueError(f"{value!r} must be a text of one line")


_CHECKS: dict[str, Callable[[object], object]] = {
    "account": _check_account,
    "constraint": check_text,
    "cpus_per_task": _check_count,
    "exclude": check_text,
    "extra_lines": check_extra_lines,
    "gpus": check_gpus,
    "gres": check_gres,
    "mem": parse_memory,
    "needs_gpu": _check_boolean,
    "nodelist": check_text,
    "nodes": check_nodes,
    "parallel_tasks_per_job": _check_count,
    "tasks_per_job": _check_count,
    "time": parse_time,
    "warm_start": _check_boolean,
}
