"""Batches: the units of a step, cut into as many parts as there are mapped task instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.sdk import conf

from fractal_airflow.execution.batching import batch_label, label_prefix
from fractal_airflow.operators.xcoms import Batch, Unit

if TYPE_CHECKING:
    from fractal_airflow.execution.resource import Resource
    from fractal_airflow.fractal import ResolvedTask


def plan_sizes(
    count: int,
    step: ResolvedTask,
    *,
    resource: Resource,
    images_per_batch: int | None,
    unit_seconds: float | None = None,
) -> list[int]:
    """Return how many units each mapped task instance takes."""
    return resource.plan(
        count,
        step.meta_parallel,
        images_per_batch=images_per_batch,
        unit_seconds=unit_seconds,
        max_batches=conf.getint("core", "max_map_length"),
    )


def cut_batches(units: Sequence[Unit], sizes: Sequence[int], *, zarr_dir: str) -> list[Batch]:
    """Cut the units of a step into batches, in order, with the labels that the UI shows."""
    prefix = label_prefix([unit["zarr_url"] for unit in units], zarr_dir)
    batches: list[Batch] = []
    start = 0
    for index, size in enumerate(sizes):
        part = list(units[start : start + size])
        label = batch_label([unit["zarr_url"] for unit in part], prefix)
        batches.append(Batch(index=index, label=label, units=part))
        start += size
    return batches
