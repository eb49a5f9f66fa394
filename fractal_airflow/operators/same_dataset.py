"""Whether a dataset is the one that a run began with, and not another of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fractal_airflow.exceptions import DatasetError

if TYPE_CHECKING:
    from fractal_airflow.dataset import Dataset
    from fractal_airflow.operators.xcoms import RunState


def check_same_dataset(dataset: Dataset, run: RunState) -> None:
    """
    Refuse to go on with a dataset that was deleted and made anew while a run worked on it.

    :raises DatasetError: where it is another one.
    """
    if run.get("created", identity_of(dataset)) != identity_of(dataset):
        raise DatasetError(
            f"Dataset {dataset.name!r} was deleted, and made anew, while this run worked on it: nothing of this "
            "run is merged into the new one. Start another run"
        )


def identity_of(dataset: Dataset) -> str:
    """Return what tells a dataset from another one of the same name."""
    return dataset.created_at.isoformat()
