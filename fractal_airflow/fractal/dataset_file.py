"""A dataset as it is exported and imported: ``{"name", "zarr_dir", "images"}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image, dump_image, parse_images
from fractal_airflow.fractal.urls import normalise_url

_KEYS = frozenset({"name", "zarr_dir", "images"})


@dataclass(slots=True, frozen=True)
class DatasetFile:
    """A dataset with its images, outside any store."""

    name: str
    zarr_dir: str
    images: list[Image] = field(default_factory=list)


def parse_dataset(data: object) -> DatasetFile:
    """
    Read a dataset.

    :raises ImageListError: naming the key or the image that breaks a rule.
    """
    if not isinstance(data, Mapping):
        raise ImageListError(f"A dataset must be an object with name, zarr_dir and images, not {data!r:.80}")
    unknown = sorted(str(key) for key in data if key not in _KEYS)
    if unknown:
        raise ImageListError(f"A dataset has no keys {unknown}; it has {sorted(_KEYS)}")
    name = data.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ImageListError(f"A dataset must have a name, not {name!r:.80}")
    try:
        zarr_dir = normalise_url(data.get("zarr_dir"))
        images = parse_images(data.get("images", []), zarr_dir=zarr_dir)
    except ImageListError as error:
        raise ImageListError(f"Dataset {name!r}: {error}") from error
    except ValueError as error:
        raise ImageListError(f"Dataset {name!r}: zarr_dir: {error}") from error
    return DatasetFile(name, zarr_dir, images)


def dump_dataset(dataset: DatasetFile) -> dict[str, Any]:
    """Return a dataset as Fractal's JSON has it."""
    images = [dump_image(image) for image in dataset.images]
    return {"name": dataset.name, "zarr_dir": dataset.zarr_dir, "images": images}
