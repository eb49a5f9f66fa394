"""The dataset store: image lists with versions, and per-image status, in a SQL database."""

from __future__ import annotations

from fractal_airflow.dataset.records import (
    Dataset,
    Diff,
    ImageStatus,
    Merged,
    StatusRecord,
    StepRun,
    Version,
)
from fractal_airflow.dataset.store import DatasetStore

__all__ = [
    "Dataset",
    "DatasetStore",
    "Diff",
    "ImageStatus",
    "Merged",
    "StatusRecord",
    "StepRun",
    "Version",
]
