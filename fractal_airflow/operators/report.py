"""What became of the units of a step, as a JSON file for programs that follow a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from fractal_airflow.execution.run_folder import safe_name
from fractal_airflow.operators.step_units import UnitEnd

if TYPE_CHECKING:
    from airflow.sdk import Context


def write_report(
    context: Context, *, index: int, name: str, ends: Sequence[UnitEnd], error: str | None = None
) -> None:
    """
    Write a step's report below ``[fractal_airflow] report_dir``, where that is set.

    :param error: why the step failed as a whole: then none of its outputs was merged.
    """
    report_dir = conf.get("fractal_airflow", "report_dir", fallback="")
    if not report_dir:
        return
    ti = context["ti"]
    path = Path(report_dir, safe_name(ti.dag_id), safe_name(ti.run_id), f"{index}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(step_report(index, name, ends, error)), encoding="utf-8")


def step_report(index: int, name: str, ends: Sequence[UnitEnd], error: str | None) -> dict[str, Any]:
    """Return ``{"index", "name", "status", "error", "units"}`` of a step."""
    units = [_unit_report(end, error) for end in ends]
    failed = error is not None or any(unit["status"] == "failed" for unit in units)
    return {
        "index": index,
        "name": name,
        "status": "failed" if failed else "done",
        "error": error or next((unit["error"] for unit in units if "error" in unit), None),
        "units": units,
    }


def _unit_report(end: UnitEnd, error: str | None) -> dict[str, Any]:
    message = end.outcome.error.message if end.outcome.error else error
    report: dict[str, Any] = {"zarr_urls": list(end.zarr_urls), "status": "failed" if message else "done"}
    if message:
        report["error"] = message
    return report
