"""Run Fractal workflows (bioimage analysis of OME-Zarr images) with Apache Airflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fractal_airflow.assets import FractalDataset
    from fractal_airflow.dag import FractalDag, FractalWorkflowGroup
    from fractal_airflow.fractal.package import TaskPackage
    from fractal_airflow.task_group import FractalTaskGroup
    from fractal_airflow.triggers.acquisitions import NewAcquisitionTrigger

__version__ = "0.3.0"

__all__ = [
    "FractalDag",
    "FractalDataset",
    "FractalTaskGroup",
    "FractalWorkflowGroup",
    "NewAcquisitionTrigger",
    "TaskPackage",
]

_HOME = {
    "FractalDag": "fractal_airflow.dag",
    "FractalDataset": "fractal_airflow.assets",
    "FractalTaskGroup": "fractal_airflow.task_group",
    "FractalWorkflowGroup": "fractal_airflow.dag",
    "NewAcquisitionTrigger": "fractal_airflow.triggers.acquisitions",
    "TaskPackage": "fractal_airflow.fractal.package",
}


def __getattr__(name: str) -> Any:
    # Airflow imports every provider to learn what it offers: what that does not need waits for its first use.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
