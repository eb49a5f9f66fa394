"""The dataset store: image lists with versions, and per-image status, in a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fractal_airflow.dataset.records import (
    Dataset,
    Diff,
    ImageStatus,
    Merged,
    StatusRecord,
    StepRun,
    Version,
)

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """Import the store, and SQLAlchemy with it, only where it is used: not while a DAG file is parsed."""
    if name != "DatasetStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fractal_airflow.dataset.store import DatasetStore

    return DatasetStore
