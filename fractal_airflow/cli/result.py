"""What became of a run, as the JSON file that ``--result`` names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fractal_airflow.exceptions import FractalAirflowError, WorkflowError
from fractal_airflow.hooks.dataset_store import get_dataset_store

_STEP_KEYS = ("index", "name", "status", "units")


def open_result(path: str | None) -> Path | None:
    """
    Return where the result goes; what an earlier run left there is removed, lest it be taken for this run's.

    :raises WorkflowError: where it cannot be written: better now than after a long run.
    """
    if path is None:
        return None
    file = Path(path).absolute()
    place = file if file.exists() else file.parent
    if file.is_dir() or not file.parent.is_dir() or not os.access(place, os.W_OK):
        raise WorkflowError(f"--result {path}: cannot be written: name a file in a folder that can be")
    if file.is_file():
        file.unlink()
    return file


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """Return the reports of the steps that ran, in their order."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/*/*.json")]
    return sorted(reports, key=lambda report: report["index"])


def write_result(file: Path, dataset: str, reports: list[dict[str, Any]], error: str | None) -> None:
    """
    Write what became of the run's images, steps and units.

    :raises WorkflowError: where the file cannot be written.
    """
    result = {
        "status": "failed" if error else "done",
        "error": error,
        "images": _images(dataset),
        "steps": [{key: report[key] for key in _STEP_KEYS} for report in reports],
    }
    try:
        file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as problem:
        raise WorkflowError(f"--result {file}: {problem.strerror}") from problem


def _images(dataset: str) -> list[dict[str, Any]]:
    """Return the dataset's images; none where there is no such dataset, or no store."""
    try:
        images: list[dict[str, Any]] = get_dataset_store().export(dataset)["images"]
    except FractalAirflowError:
        return []
    return images
