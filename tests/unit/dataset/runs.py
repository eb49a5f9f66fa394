"""Runs of a DAG's steps on a small dataset, for stories of what is computed again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fractal_airflow.dataset import DatasetStore, ImageStatus, StepCall, StepRun
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import ZARR_DIR, Change, image, urls

CALL = StepCall("lab-tasks", "1.0", "Threshold", {"parallel": {"level": 2}}, "level 2", "local")


def step(run_id: str, index: int = 0, dag_id: str = "nuclei") -> StepRun:
    return StepRun(dag_id, run_id, index, f"lab-tasks/Step {index}")


def edit(names: Collection[str]) -> Change:
    """What a step does whose units say nothing of their images."""

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return [replace(one) if urls([one])[0] in names else one for one in images]

    return change


def make(*names: str) -> Change:
    """What a step does that makes images, whether they are there or not."""

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return [*(one for one in images if urls([one])[0] not in names), *map(image, names)]

    return change


def compute(
    store: DatasetStore, step: StepRun, names: Collection[str] = "ab", fingerprint: str = "level 2"
) -> None:
    """A step that edits these images in place, and succeeds."""
    done = [ImageStatus(f"{ZARR_DIR}/{name}", "done", fingerprint=fingerprint) for name in names]
    store.merge("plate", step, edit(names), done)


def fail(store: DatasetStore, step: StepRun, *names: str, computed: bool | None = None) -> None:
    failed = [
        ImageStatus(f"{ZARR_DIR}/{name}", "failed", fingerprint="level 2", computed=computed)
        for name in names
    ]
    store.merge("plate", step, lambda images, removed: images, failed)


def unchanged(store: DatasetStore, step: StepRun, fingerprint: str = "level 2") -> str:
    """The names of what need not be computed again."""
    return names(store.unchanged("plate", step, fingerprint))


def names(found: set[str]) -> str:
    return "".join(sorted(url.removeprefix(f"{ZARR_DIR}/") for url in found))
