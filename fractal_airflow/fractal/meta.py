"""How a task is to run: the ``meta`` of manifests and workflow tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MB_PER_UNIT = {"K": 0.001, "M": 1, "G": 1000, "T": 1_000_000}

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", re.IGNORECASE)


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

    :param where: the field, such as ``meta_parallel``.
    """
    problems = []
    for key, value in (meta or {}).items():
        check = _CHECKS.get(key)
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
    if mb <= 0:
        raise ValueError(f'{value!r} is no amount of memory: give MB, such as 4000, or a text such as "4G"')
    return math.ceil(mb)


def _check_account(value: object) -> None:
    raise ValueError("accounts do not belong to a workflow: set the account in the resource, or in the run")


def _check_count(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} must be a whole number of at least 1")


def _check_boolean(value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} must be true or false")


def _check_text(value: object) -> None:
    # These become options of a batch script, a line each.
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ValueError(f"{value!r} must be a text of one line")


def _check_text_or_count(value: object) -> None:
    if isinstance(value, str):
        _check_text(value)
    else:
        _check_count(value)


def _check_lines(value: object) -> None:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} must be a list of texts")
    for line in value:
        _check_text(line)


_CHECKS: dict[str, Callable[[object], object]] = {
    "account": _check_account,
    "constraint": _check_text,
    "cpus_per_task": _check_count,
    "exclude": _check_text,
    "extra_lines": _check_lines,
    "gpus": _check_text_or_count,
    "gres": _check_text,
    "mem": parse_memory,
    "needs_gpu": _check_boolean,
    "nodelist": _check_text,
    "nodes": _check_text_or_count,
    "parallel_tasks_per_job": _check_count,
    "tasks_per_job": _check_count,
    "time": _check_text_or_count,
    "warm_start": _check_boolean,
}
