"""Images and image lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fractal_airflow.collector import collector_paused
from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.urls import check_text, is_below, normalise_url

Scalar = str | int | float | bool
"""An attribute's value."""

IMAGE_KEYS = frozenset({"zarr_url", "origin", "attributes", "types"})


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


@collector_paused()
def parse_images(data: object, *, zarr_dir: str | None = None) -> list[Image]:
    """
    Read an image list.

    :param data: a list of ``{"zarr_url", "origin", "types", "attributes"}``; only the first must be there.
    :param zarr_dir: the folder below which every image must lie, in normal form.
    :raises ImageListError: naming the image that breaks a rule.
    """
    if not isinstance(data, list):
        raise ImageListError(f"An image list must be a list, not {data!r:.80}")
    images: dict[str, Image] = {}
    for index, item in enumerate(data):
        try:
            image = _parse_image(item)
        except ValueError as error:
            raise ImageListError(f"images[{index}]{_url_of(item)}: {error}") from error
        if image.zarr_url in images:
            raise ImageListError(f"images[{index}]: {image.zarr_url!r} is in the list twice: name it once")
        if zarr_dir is not None and not is_below(image.zarr_url, zarr_dir):
            raise ImageListError(
                f"images[{index}]: {image.zarr_url!r} does not lie below zarr_dir {zarr_dir!r}"
            )
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


def parse_fields(
    item: Mapping[str, Any], *, may_unset: bool = False
) -> tuple[str, str | None, dict[str, Any], dict[str, bool]]:
    """
    Read what an image and an update of one have in common: zarr_url, origin, attributes and types.

    The two dictionaries are the item's own, not copies: a million updates weigh enough as they are.

    :param may_unset: whether an attribute may be None.
    :raises ValueError: naming the field that breaks a rule.
    """
    if "zarr_url" not in item:
        raise ValueError("has no zarr_url")
    attributes = item.get("attributes", {})
    if not isinstance(attributes, dict):
        raise ValueError(f"attributes must be an object, not {attributes!r:.200}")
    for key, value in attributes.items():
        if value is not None or not may_unset:
            check_attribute(key, value)
    zarr_url = parse_url(item, "zarr_url")
    origin = None if item.get("origin") is None else parse_url(item, "origin")
    return zarr_url, origin, attributes, check_types(item.get("types", {}))


def parse_url(item: Mapping[str, Any], key: str) -> str:
    """
    Return the path that a field holds, in normal form.

    :raises ValueError: naming the field, where it is not a path.
    """
    try:
        return normalise_url(item[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def check_attribute(key: object, value: object) -> None:
    """
    Check an attribute's value.

    :raises ValueError: where it is not a text, a finite number or a boolean.
    """
    if not isinstance(key, str):
        raise ValueError(f"{key!r} cannot name an attribute: it must be a text")
    check_text(key)
    if isinstance(value, str):
        check_text(value)
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"attribute {key!r} must be a text, a finite number, true or false, not {value!r:.200}"
        )


def check_types(types: object) -> dict[str, bool]:
    """
    Check a dictionary of types, and return it.

    :raises ValueError: where it is not a dictionary of booleans.
    """
    if not isinstance(types, dict):
        raise ValueError(f"types must be an object, not {types!r:.200}")
    for key, value in types.items():
        if not isinstance(key, str) or not isinstance(value, bool):
            raise ValueError(f"type {key!r} must be true or false, not {value!r:.200}")
        check_text(key)
    return types


def _parse_image(item: object) -> Image:
    if not isinstance(item, dict):
        raise ValueError(f"must be an object with a zarr_url, not {item!r:.200}")
    if not IMAGE_KEYS.issuperset(item):
        unknown = sorted(str(key) for key in item if key not in IMAGE_KEYS)
        raise ValueError(f"has unknown keys {unknown}; known are {sorted(IMAGE_KEYS)}")
    zarr_url, origin, attributes, types = parse_fields(item)
    return Image(zarr_url, origin, dict(attributes), dict(types))


def _url_of(item: object) -> str:
    """Return the zarr_url of a list's item for its error, where it has one."""
    return f" ({item['zarr_url']!r:.200})" if isinstance(item, dict) and "zarr_url" in item else ""
