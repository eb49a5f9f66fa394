"""What a step's commands return: task outputs, and the parallelization list of an init."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fractal_airflow.exceptions import TaskOutputValidationError
from fractal_airflow.fractal.images import Scalar, check_attribute, check_types
from fractal_airflow.fractal.urls import normalise_url

T = TypeVar("T")

logger = logging.getLogger(__name__)

_OUTPUT_KEYS = frozenset({"image_list_updates", "image_list_removals"})
_UPDATE_KEYS = frozenset({"zarr_url", "origin", "attributes", "types"})
_INIT_KEYS = frozenset({"parallelization_list"})
_ITEM_KEYS = frozenset({"zarr_url", "init_args"})
_MOST_SHOWN = 20


@dataclass(slots=True, frozen=True)
class ImageUpdate:
    """What a task says of one image; an attribute that is None is unset."""

    zarr_url: str
    origin: str | None = None
    attributes: dict[str, Scalar | None] = field(default_factory=dict)
    types: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class TaskOutput:
    """What a unit returned: images to add or change, and the ``zarr_url`` of images to remove."""

    image_list_updates: list[ImageUpdate] = field(default_factory=list)
    image_list_removals: list[str] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class ParallelizationItem:
    """One unit of the compute half of a compound task."""

    zarr_url: str
    init_args: dict[str, Any] = field(default_factory=dict)


def parse_task_output(data: object) -> TaskOutput:
    """
    Read a task output; None is an empty one.

    :raises TaskOutputValidationError: naming every part that breaks the schema.
    """
    if data is None:
        return TaskOutput()
    mapping = _mapping(data, _OUTPUT_KEYS, "task output")
    problems: list[str] = []
    updates = _parse_list(mapping, "image_list_updates", _parse_update, problems)
    removals = _parse_list(mapping, "image_list_removals", normalise_url, problems)
    _raise_for(problems, "task output")
    return TaskOutput(updates, removals)


def parse_init_output(data: object) -> list[ParallelizationItem]:
    """
    Read what the init half of a compound task returns; exact repeats of an item are dropped.

    :raises TaskOutputValidationError: naming every part that breaks the schema.
    """
    if data is None:
        return []
    mapping = _mapping(data, _INIT_KEYS, "init output")
    problems: list[str] = []
    items = _parse_list(mapping, "parallelization_list", _parse_item, problems)
    _raise_for(problems, "init output")
    # As JSON text, since Python holds true and 1 for the same.
    distinct = {json.dumps([item.zarr_url, item.init_args], sort_keys=True): item for item in reversed(items)}
    return list(reversed(distinct.values()))


def _mapping(data: object, known: frozenset[str], what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise TaskOutputValidationError(f"The {what} must be an object with {sorted(known)}, not {data!r:.200}")
    unknown = set(data) - known
    if unknown:
        raise TaskOutputValidationError(
            f"The {what} has unknown keys {sorted(map(str, unknown))}; known are {sorted(known)}"
        )
    return data


def _parse_list(
    mapping: Mapping[str, Any], key: str, parse: Callable[[object], T], problems: list[str]
) -> list[T]:
    """Parse the items of a list, noting where each one that breaks the schema stands."""
    items = mapping.get(key, [])
    if not isinstance(items, list):
        problems.append(f"{key}: must be a list, not {items!r:.200}")
        return []
    parsed: list[T] = []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except ValueError as error:
            problems.append(f"{key}[{index}]: {error}")
    return parsed


def _parse_update(item: object) -> ImageUpdate:
    if not isinstance(item, Mapping) or "zarr_url" not in item:
        raise ValueError(f"must be an object with a zarr_url, not {item!r:.200}")
    if not _UPDATE_KEYS.issuperset(item):
        unknown = sorted(str(key) for key in set(item) - _UPDATE_KEYS)
        logger.warning("The update of %s has unknown keys %s: they are ignored", item["zarr_url"], unknown)
    attributes = item.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise ValueError(f"attributes must be an object, not {attributes!r:.200}")
    for key, value in attributes.items():
        if value is not None:
            check_attribute(key, value)
    origin = item.get("origin")
    return ImageUpdate(
        zarr_url=normalise_url(item["zarr_url"]),
        origin=None if origin is None else normalise_url(origin),
        attributes=dict(attributes),
        types=check_types(item.get("types", {})),
    )


def _parse_item(item: object) -> ParallelizationItem:
    if not isinstance(item, Mapping) or "zarr_url" not in item:
        raise ValueError(f"must be an object with a zarr_url, not {item!r:.200}")
    unknown = set(item) - _ITEM_KEYS
    if unknown:
        raise ValueError(f"has unknown keys {sorted(map(str, unknown))}; known are {sorted(_ITEM_KEYS)}")
    init_args = item.get("init_args", {})
    if not isinstance(init_args, Mapping):
        raise ValueError(f"init_args must be an object, not {init_args!r:.200}")
    return ParallelizationItem(normalise_url(item["zarr_url"]), dict(init_args))


def _raise_for(problems: list[str], what: str) -> None:
    if problems:
        shown = problems[:_MOST_SHOWN]
        more = f"\n… and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
        raise TaskOutputValidationError(f"The {what} breaks the schema:\n" + "\n".join(shown) + more)
