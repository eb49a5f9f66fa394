"""What became of the units of a step, as a JSON file for programs that follow a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.fractal import ResolvedTask
    from fractal_airflow.operators.step_units import UnitEnd


log = logging.getLogger(__name__)


def write_report(
    context: Context, step: ResolvedTask, ends: Sequence[UnitEnd], error: Exception | None, *, merged: bool
) -> None:
    """
    Write a step's report below ``[fractal_airflow] report_dir``, where that is set.

    Where it cannot be written there is a warning: what the step did stands all the same.

    :param error: why the step failed.
    :param merged: whether the outputs were merged: if not, every unit counts as failed.
    """
    from fractal_airflow.execution.run_folder import safe_name

    report_dir = conf.get("fractal_airflow", "report_dir", fallback="")
    if not report_dir:
        return
    ti = context["ti"]
    path = Path(report_dir, safe_name(ti.dag_id), safe_name(ti.run_id), f"{step.index}.json")
    report = {
        "index": step.index,
        "name": step.name,
        "status": "failed" if error else "done",
        "error": str(error) if error else None,
        "units": [unit_report(end, None if merged else str(error)) for end in ends],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report), encoding="utf-8")
    except OSError as problem:
        log.warning("The step's report could not be written into [fractal_airflow] report_dir: %s", problem)


def unit_report(end: UnitEnd, step_error: str | None = None) -> dict[str, Any]:
    """
    Return ``{"zarr_urls", "status", "error"?}`` of a unit.

    :param step_error: why nothing of the step was merged, where that is so.
    """
    error = end.outcome.error.message if end.outcome.error else step_error
    report: dict[str, Any] = {"zarr_urls": list(end.zarr_urls), "status": "failed" if error else "done"}
    if error:
        report["error"] = error
    return report
