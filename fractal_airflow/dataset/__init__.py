"""The dataset store: image lists with versions, and per-image status, in a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fractal_airflow.dataset.records import (
    NO_IMAGE,
    Dataset,
    Diff,
    ImageStatus,
    ImageWrite,
    Merged,
    Snapshot,
    StatusRecord,
    StepCall,
    StepRecord,
    StepRun,
    Version,
)

if TYPE_CHECKING:
    from fractal_airflow.dataset.store import DatasetStore

__all__ = [
    "NO_IMAGE",
    "Dataset",
    "DatasetStore",
    "Diff",
    "ImageStatus",
    "ImageWrite",
    "Merged",
    "Snapshot",
    "StatusRecord",
    "StepCall",
    "StepRecord",
    "StepRun",
    "Version",
]


def __getattr__(name: str) -> Any:
    """Import the store, and SQLAlchemy with it, only where it is used: not while a DAG file is parsed."""
    if name != "DatasetStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fractal_airflow.dataset.store import DatasetStore

    return DatasetStore
