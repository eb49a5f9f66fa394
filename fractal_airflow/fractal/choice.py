"""Which of the images that pass the filters a run processes, and which of them a failure leaves out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.images import Image

ImageChoice = Literal["all", "pending", "failed", "event"]
"""All images; those that are not done yet, or not as they are now; those that failed; those of an event."""

OnFailure = Literal["stop", "continue"]
"""What follows a step some of whose units failed: nothing, or the next step without the failed images."""


def parse_image_choice(value: object) -> ImageChoice:
    """
    Read which images a run processes; None: all.

    :raises WorkflowError: where it is no such choice.
    """
    choice: ImageChoice = _one_of("images", value, get_args(ImageChoice), "all")
    return choice


def parse_on_failure(value: object) -> OnFailure:
    """
    Read what follows a step with failures; None: stop.

    :raises WorkflowError: where it is no such choice.
    """
    choice: OnFailure = _one_of("on_failure", value, get_args(OnFailure), "stop")
    return choice


def parse_together(value: object) -> dict[str, list[str]]:
    """
    Read which images a task needs together, such as ``{"Register": ["plate", "well"]}``: attributes, by task.

    :raises WorkflowError: naming what is wrong.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise WorkflowError(f'together: must be an object such as {{"Task": ["well"]}}, not {value!r:.80}')
    for task, keys in value.items():
        if not isinstance(keys, (list, tuple)) or not keys or not all(isinstance(key, str) for key in keys):
            raise WorkflowError(
                f"together: {task!r} must have a list of attributes, such as ['plate', 'well'], not {keys!r:.80}"
            )
    return {str(task): list(keys) for task, keys in value.items()}


def whole_groups(
    wanted: Collection[str], candidates: Sequence[Image], attributes: Sequence[str]
) -> list[Image]:
    """
    Return the candidates that are wanted, and those that share all these attributes with one that is.

    :param wanted: the ``zarr_url`` of images.
    :param attributes: what makes a group; none: every image is on its own.
    """
    if not attributes:
        return [image for image in candidates if image.zarr_url in wanted]
    chosen = {_group(image, attributes) for image in candidates if image.zarr_url in wanted}
    return [image for image in candidates if _group(image, attributes) in chosen]


def complete_groups(
    candidates: Sequence[Image], passing: Iterable[Image], attributes: Sequence[str]
) -> Sequence[Image]:
    """
    Return the candidates whose group has lost no member: a task that needs images together gets all or none.

    :param passing: the images that there were before some were left out.
    :param attributes: what makes a group; none: every image is on its own.
    """
    if not attributes:
        return candidates
    left = {image.zarr_url for image in candidates}
    lacking = {_group(image, attributes) for image in passing if image.zarr_url not in left}
    return [image for image in candidates if _group(image, attributes) not in lacking]


def without_failed(
    candidates: Iterable[Image], images: Iterable[Image], failed: Collection[str]
) -> list[Image]:
    """
    Return the candidates that neither failed nor come from an image that did, over any number of origins.

    What an earlier run made of a failed image is out of date: it is left out with it.

    :param images: the whole image list, in which origins are looked up.
    :param failed: the ``zarr_url`` of the images that failed.
    """
    if not failed:
        return list(candidates)
    origins = {image.zarr_url: image.origin for image in images}
    left_out = dict.fromkeys(failed, True)
    return [image for image in candidates if not _comes_from(image.zarr_url, origins, left_out)]


def untouched_by_failures(
    input_urls: Iterable[str], failed_units: Iterable[tuple[str | None, Any]]
) -> set[str]:
    """
    Return the input images of a compound step that no failed unit is about.

    A unit is about its own image, and about those that its ``init_args`` name. By Fractal's rule, an input
    image without a unit of its own fails with any unit of the step. So one bad well would have a whole plate
    projected again: what was made of the others stands.

    :param failed_units: the image of each failed unit, and its ``init_args``.
    :return: nothing, where a failed unit is about none of the input images: then any of them may be its.
    """
    urls = set(input_urls)
    touched: set[str] = set()
    for zarr_url, init_args in failed_units:
        known = urls.intersection(about(zarr_url, init_args))
        if not known:
            return set()
        touched |= known
    return urls - touched


def about(zarr_url: str | None, init_args: object) -> Iterator[str]:
    """Return the images that a unit is about: its own, and whatever its ``init_args`` may name."""
    if zarr_url is not None:
        yield zarr_url
    yield from _texts(init_args)


def _one_of(name: str, value: object, choices: Sequence[str], default: str) -> Any:
    if value is None or value == "":
        return default
    if value not in choices:
        raise WorkflowError(f"{name}: must be one of {', '.join(map(str, choices))}, not {value!r:.80}")
    return value


def _group(image: Image, attributes: Sequence[str]) -> tuple[object, ...]:
    # Python takes True for 1, which it is not here.
    values = (image.attributes.get(key) for key in attributes)
    return tuple((isinstance(value, bool), value) for value in values)


def _comes_from(url: str, origins: Mapping[str, str | None], left_out: dict[str, bool]) -> bool:
    path: list[str] = []
    at: str | None = url
    while at is not None and at not in left_out:
        left_out[at] = False  # so that a circle of origins ends
        path.append(at)
        at = origins.get(at)
    verdict = at is not None and left_out[at]
    left_out.update(dict.fromkeys(path, verdict))
    return verdict


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
