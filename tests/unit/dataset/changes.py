"""Small image lists and changes for the store tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fractal_airflow.dataset import DatasetStore, StepRun
from fractal_airflow.fractal.images import Image

ZARR_DIR = "/data/plate"

Change = Callable[[list[Image], frozenset[str]], list[Image]]


def image(name: str, well: str = "B03", **types: bool) -> Image:
    """An image of the plate, with a well."""
    return Image(f"{ZARR_DIR}/{name}", None, {"well": well}, types)


def urls(images: list[Image]) -> list[str]:
    """The last part of each image's path."""
    return [one.zarr_url.removeprefix(f"{ZARR_DIR}/") for one in images]


def add(*names: str) -> Change:
    """Append images."""
    return lambda images, removed: [*images, *(image(name) for name in names)]


def drop(*names: str) -> Change:
    """Take images off the list, and refuse, as the rules do, what is not there nor was removed before."""

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        gone = {f"{ZARR_DIR}/{name}" for name in names}
        missing = gone - {one.zarr_url for one in images} - removed
        if missing:
            raise KeyError(missing)
        return [one for one in images if one.zarr_url not in gone]

    return change


def set_type(name: str, **types: bool) -> Change:
    """Overlay one image's types."""

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        url = f"{ZARR_DIR}/{name}"
        return [replace(one, types={**one.types, **types}) if one.zarr_url == url else one for one in images]

    return change


def become(*images: Image) -> Change:
    """Make these the whole list, whatever it was."""
    return lambda _images, _removed: list(images)


def step(index: int = 0, run_id: str = "run_1", task: str = "Threshold") -> StepRun:
    """A step of the DAG "nuclei"."""
    return StepRun("nuclei", run_id, index, task)


def plate(store: DatasetStore, *names: str) -> str:
    """Make the dataset "plate" with these images."""
    return store.create("plate", ZARR_DIR, [image(name) for name in names]).name
