"""What a step's commands return: task outputs, and the parallelization list of an init."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fractal_airflow.exceptions import TaskOutputValidationError
from fractal_airflow.fractal.images import IMAGE_KEYS, Scalar, parse_fields, parse_url
from fractal_airflow.fractal.urls import normalise_url

T = TypeVar("T")

logger = logging.getLogger(__name__)

_OUTPUT_KEYS = frozenset({"image_list_updates", "image_list_removals"})
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
    Read a task output; None is an empty one. Unknown keys inside an update are ignored with a warning.

    The updates go on using the dictionaries of the data.

    :raises TaskOutputValidationError: naming every item that breaks the schema.
    """
    if data is None:
        return TaskOutput()
    mapping = _mapping(data, _OUTPUT_KEYS, "task output")
    problems: list[str] = []
    updates = _parse_list(mapping, "image_list_updates", _parse_update, problems)
    removals = _parse_list(mapping, "image_list_removals", normalise_url, problems)
    _raise_for(problems, "task output")
    _warn_of_unknown_keys(mapping.get("image_list_updates", []))
    return TaskOutput(updates, removals)


def parse_init_output(data: object) -> list[ParallelizationItem]:
    """
    Read what the init half of a compound task returns; exact repeats of an item are dropped.

    :raises TaskOutputValidationError: naming every item that breaks the schema.
    """
    if data is None:
        return []
    mapping = _mapping(data, _INIT_KEYS, "init output")
    problems: list[str] = []
    items = _parse_list(mapping, "parallelization_list", _parse_item, problems)
    _raise_for(problems, "init output")
    distinct: dict[str, ParallelizationItem] = {}
    for text, item in items:
        distinct.setdefault(text, item)
    return list(distinct.values())


def _mapping(data: object, known: frozenset[str], what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise TaskOutputValidationError(
            f"The {what} must be an object with {sorted(known)}, not {data!r:.200}"
        )
    if not known.issuperset(data):
        raise TaskOutputValidationError(f"The {what} {_unknown_keys(data, known)}")
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
    if not isinstance(item, dict):
        raise ValueError(f"must be an object with a zarr_url, not {item!r:.200}")
    return ImageUpdate(*parse_fields(item, may_unset=True))


def _parse_item(item: object) -> tuple[str, ParallelizationItem]:
    """Return an item with its JSON text, by which repeats are known: Python takes true and 1 for the same."""
    if not isinstance(item, dict) or "zarr_url" not in item:
        raise ValueError(f"must be an object with a zarr_url, not {item!r:.200}")
    if not _ITEM_KEYS.issuperset(item):
        raise ValueError(_unknown_keys(item, _ITEM_KEYS))
    init_args = item.get("init_args", {})
    if not isinstance(init_args, dict):
        raise ValueError(f"init_args must be an object, not {init_args!r:.200}")
    parsed = ParallelizationItem(parse_url(item, "zarr_url"), dict(init_args))
    try:
        text = json.dumps([parsed.zarr_url, parsed.init_args], sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"init_args cannot be written as JSON: {error}") from error
    return text, parsed


def _warn_of_unknown_keys(updates: Iterable[Mapping[str, Any]]) -> None:
    """Warn once for the whole output: it may have thousands of updates of the same making."""
    strange = [item for item in updates if not IMAGE_KEYS.issuperset(item)]
    if strange:
        keys = sorted({str(key) for item in strange for key in item} - IMAGE_KEYS)
        first = strange[0]["zarr_url"]
        logger.warning(
            "Unknown keys %s are ignored in %d updates, first that of %s", keys, len(strange), first
        )


def _unknown_keys(data: Iterable[object], known: frozenset[str]) -> str:
    unknown = sorted(str(key) for key in data if key not in known)
    return f"has unknown keys {unknown}; known are {sorted(known)}"


def _raise_for(problems: list[str], what: str) -> None:
    if problems:
        shown = problems[:_MOST_SHOWN]
        more = f"\n… and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
        raise TaskOutputValidationError(f"The {what} breaks the schema:\n" + "\n".join(shown) + more)
