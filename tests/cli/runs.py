"""How the tests of ``airflow fractal run`` call it, and read its result file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services.airflow import FAKE_TASKS, AirflowHome

PACKAGE = f"{FAKE_TASKS}:{sys.executable}"


def arguments(airflow: AirflowHome, workflow: Path, *more: str, dataset: str = "plate") -> list[str]:
    """Return the arguments of a run on the tests' dataset, with a result file."""
    return [
        *("run", "--workflow", str(workflow), "--package", PACKAGE, "--dataset", dataset),
        *("--zarr-dir", str(airflow.data), "--result", str(airflow.home / "result.json"), *more),
    ]


def run(
    airflow: AirflowHome, workflow: Path, *more: str, code: int = 0, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run a workflow, which must end with this exit code."""
    done = airflow.cli("fractal", *arguments(airflow, workflow, *more), check=False, **kwargs)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def result(airflow: AirflowHome) -> dict[str, Any]:
    """Return what the result file says."""
    told: dict[str, Any] = json.loads((airflow.home / "result.json").read_text(encoding="utf-8"))
    assert list(told) == ["status", "error", "images", "steps"]
    return told


def image_names(images: list[dict[str, Any]]) -> list[str]:
    """Return images as the part of their ``zarr_url`` below the plate."""
    return [image["zarr_url"].split(".zarr/")[1] for image in images]
