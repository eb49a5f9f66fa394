"""Images and image lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.urls import is_below, normalise_url

Scalar = str | int | float | bool
"""An attribute's value."""

_KEYS = frozenset({"zarr_url", "origin", "attributes", "types"})


@dataclass(slots=True, frozen=True)
class Image:
    """
    One OME-Zarr image of a dataset.

    :param zarr_url: where it is; unique in an image list.
    :param origin: the ``zarr_url`` of the image that it was made from.
    :param attributes: such as ``{"plate": "p1", "well": "B03"}``.
    :param types: such as ``{"is_3D": True}``; an absent type counts as False.
    """

    zarr_url: str
    origin: str | None = None
    attributes: dict[str, Scalar] = field(default_factory=dict)
    types: dict[str, bool] = field(default_factory=dict)


def parse_images(data: object, *, zarr_dir: str | None = None) -> list[Image]:
    """
    Read an image list.

    :param data: a list of ``{"zarr_url", "origin", "types", "attributes"}``; all but the first may be missing.
    :param zarr_dir: the folder below which every image must lie.
    :raises ImageListError: naming the image that breaks a rule.
    """
    if not isinstance(data, list):
        raise ImageListError(f"An image list must be a list, not {type(data).__name__}")
    images: dict[str, Image] = {}
    for index, item in enumerate(data):
        try:
            image = _parse_image(item)
        except ValueError as error:
            raise ImageListError(f"Image {index} of the list: {error}") from error
        if image.zarr_url in images:
            raise ImageListError(f"Image {image.zarr_url!r} is twice in the list")
        if zarr_dir is not None and not is_below(image.zarr_url, zarr_dir):
            raise ImageListError(f"Image {image.zarr_url!r} does not lie below zarr_dir {zarr_dir!r}")
        images[image.zarr_url] = image
    return list(images.values())


def dump_image(image: Image) -> dict[str, Any]:
    """Return an image as Fractal's JSON has it."""
    return {
        "zarr_url": image.zarr_url,
        "origin": image.origin,
        "types": image.types,
        "attributes": image.attributes,
    }


def check_attribute(key: object, value: object) -> None:
    """
    Check an attribute's value.

    :raises ValueError: where it is not a text, a finite number or a boolean.
    """
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"attribute {key!r} must be a text, a number or a boolean, not {value!r}")


def check_types(types: object) -> dict[str, bool]:
    """
    Check a dictionary of types, and return it.

    :raises ValueError: where it is not a dictionary of booleans.
    """
    if not isinstance(types, Mapping):
        raise ValueError(f"types must be an object, not {types!r}")
    for key, value in types.items():
        if not isinstance(key, str) or not isinstance(value, bool):
            raise ValueError(f"type {key!r} must be true or false, not {value!r}")
    return dict(types)


def _parse_image(item: object) -> Image:
    if not isinstance(item, Mapping):
        raise ValueError(f"it must be an object, not {item!r}")
    unknown = set(item) - _KEYS
    if unknown:
        raise ValueError(f"unknown keys {sorted(map(str, unknown))}; known are {sorted(_KEYS)}")
    if "zarr_url" not in item:
        raise ValueError("it has no zarr_url")
    attributes = item.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise ValueError(f"attributes must be an object, not {attributes!r}")
    for key, value in attributes.items():
        check_attribute(key, value)
    origin = item.get("origin")
    return Image(
        zarr_url=normalise_url(item["zarr_url"]),
        origin=None if origin is None else normalise_url(origin),
        attributes=dict(attributes),
        types=check_types(item.get("types", {})),
    )
