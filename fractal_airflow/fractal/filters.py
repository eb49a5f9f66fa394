"""Which images a step gets: type filters of the step, attribute filters of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fractal_airflow.exceptions import EmptyImageListError, WorkflowError
from fractal_airflow.fractal.images import Image, Scalar, check_attribute, check_types

TypeFilters = dict[str, bool]
AttributeFilters = dict[str, list[Scalar]]


def parse_type_filters(data: object) -> TypeFilters:
    """
    Read type filters, such as ``{"is_3D": true}``.

    :raises WorkflowError: naming the key whose value is not a boolean.
    """
    try:
        return {} if data is None else dict(check_types(data))
    except ValueError as error:
        raise WorkflowError(f'Type filters must be an object such as {{"is_3D": true}}: {error}') from error


def parse_attribute_filters(data: object) -> AttributeFilters:
    """
    Read attribute filters, such as ``{"well": ["B03", "B04"]}``.

    :raises WorkflowError: naming the key whose value is not a non-empty list of values of one type.
    """
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise WorkflowError(
            f'Attribute filters must be an object such as {{"well": ["B03"]}}, not {data!r:.80}'
        )
    return {key: _parse_values(key, values) for key, values in data.items()}


def step_type_filters(
    current: Mapping[str, bool],
    input_types: Mapping[str, bool],
    workflow_types: Mapping[str, bool],
    *,
    task: str,
) -> TypeFilters:
    """
    Return the type filters of one step.

    :param current: the run's type filters as they are before the step.
    :param input_types: what the task asks for.
    :param workflow_types: the workflow task's own type filters.
    :raises WorkflowError: where the last two set a key to different values.
    """
    conflicts = [key for key, value in input_types.items() if workflow_types.get(key, value) != value]
    if conflicts:
        wanted = ", ".join(f"{key}={input_types[key]}" for key in conflicts)
        raise WorkflowError(
            f"{task}: the task asks for images with {wanted}, but the workflow's type_filters say the "
            "opposite: remove them from type_filters"
        )
    return {**current, **input_types, **workflow_types}


def filter_images(
    images: Iterable[Image], type_filters: Mapping[str, bool], attribute_filters: Mapping[str, list[Any]]
) -> list[Image]:
    """Return the images that pass all filters, in their order."""
    wanted = [(key, {_same(value) for value in values}) for key, values in attribute_filters.items()]
    return [
        image
        for image in images
        if all(image.types.get(key, False) == value for key, value in type_filters.items())
        and all(key in image.attributes and _same(image.attributes[key]) in values for key, values in wanted)
    ]


def select_images(
    images: Iterable[Image],
    type_filters: Mapping[str, bool],
    attribute_filters: Mapping[str, list[Any]],
    *,
    task: str,
) -> list[Image]:
    """
    Return the images that a step gets.

    :raises EmptyImageListError: where none passes.
    """
    selected = filter_images(images, type_filters, attribute_filters)
    if not selected:
        raise EmptyImageListError(
            f"{task}: no image passes the type filters {dict(type_filters)} and the attribute filters "
            f"{dict(attribute_filters)}: change them, or look at the dataset's images"
        )
    return selected


def _parse_values(key: object, values: object) -> list[Scalar]:
    if not isinstance(values, list) or not values:
        raise WorkflowError(
            f"Attribute filter {key!r} must be a list of at least one value, not {values!r:.80}"
        )
    try:
        for value in values:
            check_attribute(key, value)
    except ValueError as error:
        raise WorkflowError(f"Attribute filters: {error}") from error
    if len({_kind(value) for value in values}) > 1:
        raise WorkflowError(f"Attribute filter {key!r} must have values of one type, not {values!r:.80}")
    return list(values)


def _kind(value: Scalar) -> type:
    """Return a value's type; whole numbers and others are one type, as 1 and 1.0 are the same value."""
    return float if type(value) is int else type(value)


def _same(value: Scalar) -> tuple[bool, Scalar]:
    """Return what is equal for equal values alone: Python takes True for 1 and 1.0, which it is not here."""
    return isinstance(value, bool), value
