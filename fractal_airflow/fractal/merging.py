"""How the outputs of a step change the image list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fractal_airflow.collector import collector_paused
from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput
from fractal_airflow.fractal.urls import is_below

UnitStatus = Literal["done", "failed"]

_NOTHING = Image("")
"""What an image starts from that has no origin in the list."""


@dataclass(slots=True, frozen=True)
class UnitResult:
    """
    How a unit of a step ended.

    :param zarr_url: its image; None for a command that is given all images of the step.
    :param output: what it returned, where it succeeded.
    """

    zarr_url: str | None
    output: TaskOutput | None = None
    failed: bool = False


@collector_paused()
def merge_step(
    images: Sequence[Image],
    results: Sequence[UnitResult],
    *,
    zarr_dir: str,
    input_urls: Sequence[str],
    output_types: Mapping[str, bool],
    already_removed: Collection[str] = (),
) -> list[Image]:
    """
    Return the image list after a step: the outputs of the units that succeeded, merged and applied.

    Where they say nothing at all, the input images count as updated, so that they get the output types.

    :param images: the image list before the step; it stays as it is.
    :param results: of all units, in their order.
    :param zarr_dir: the dataset's, in normal form.
    :param input_urls: the images that the step was given.
    :param already_removed: as in :func:`apply_output`.
    :raises ImageListError: where the outputs contradict each other or the image list.
    """
    output = merge_outputs(result.output for result in results if result.output and not result.failed)
    if output == TaskOutput():
        output = TaskOutput(_implicit_updates(images, input_urls, results))
    return apply_output(
        images, output, zarr_dir=zarr_dir, output_types=output_types, already_removed=already_removed
    )


def edited_in_place(images: Sequence[Image], results: Sequence[UnitResult]) -> list[Image]:
    """
    Return the image list with a new object for each image whose unit succeeded and returned nothing about any.

    Such a unit may well have edited its own image, whose entry stays as it is where other units of the step
    did return something.
    """
    edited = {result.zarr_url for result in results if result.output == TaskOutput() and not result.failed}
    return [replace(image) if image.zarr_url in edited else image for image in images]


@collector_paused()
def merge_outputs(outputs: Iterable[TaskOutput]) -> TaskOutput:
    """
    Return the outputs of all units as one, in their order, without repeats.

    :raises ImageListError: where a ``zarr_url`` then still occurs twice.
    """
    updates: dict[str, ImageUpdate] = {}
    removals: dict[str, None] = {}
    for output in outputs:
        for update in output.image_list_updates:
            first = updates.setdefault(update.zarr_url, update)
            if first is not update and not _same_update(first, update):
                raise ImageListError(
                    f"Image {update.zarr_url!r} is updated twice, in different ways: "
                    "units of one step must not return the same image"
                )
        removals.update(dict.fromkeys(output.image_list_removals))
    for zarr_url in removals:
        if zarr_url in updates:
            raise ImageListError(f"Image {zarr_url!r} is both updated and removed by one step")
    return TaskOutput(list(updates.values()), list(removals))


@collector_paused()
def apply_output(
    images: Iterable[Image],
    output: TaskOutput,
    *,
    zarr_dir: str,
    output_types: Mapping[str, bool],
    already_removed: Collection[str] = (),
) -> list[Image]:
    """
    Return the image list with a merged output applied to it: updates in their order, then removals.

    :param images: the image list; it stays as it is.
    :param zarr_dir: the dataset's, in normal form.
    :param already_removed: what an earlier merge of this very step removed: no error if it is removed again.
    :raises ImageListError: for a new image outside ``zarr_dir``, or the removal of one that is not there.
    """
    removed_before = frozenset(already_removed)
    by_url = {image.zarr_url: image for image in images}
    for update in output.image_list_updates:
        before = by_url.get(update.zarr_url)
        if before is None and not is_below(update.zarr_url, zarr_dir):
            raise ImageListError(
                f"New image {update.zarr_url!r} does not lie below zarr_dir {zarr_dir!r}, where tasks must write"
            )
        origin, start = _start(before, update, by_url, removed_before)
        by_url[update.zarr_url] = _overlaid(update, origin, start, output_types)
    for zarr_url in output.image_list_removals:
        if by_url.pop(zarr_url, None) is None and zarr_url not in removed_before:
            raise ImageListError(f"Image {zarr_url!r} cannot be removed: it is not in the image list")
    return list(by_url.values())


def input_statuses(input_urls: Iterable[str], results: Iterable[UnitResult]) -> dict[str, UnitStatus]:
    """
    Return the status of each input image of a step.

    It is done if its own units succeeded, or if it has none and no unit failed; else it failed.
    """
    own: dict[str | None, UnitStatus] = {}
    any_failed: UnitStatus = "done"
    for result in results:
        if result.failed:
            own[result.zarr_url] = any_failed = "failed"
        else:
            own.setdefault(result.zarr_url, "done")
    return {url: own.get(url, any_failed) for url in input_urls}


def _start(
    before: Image | None, update: ImageUpdate, by_url: Mapping[str, Image], removed_before: frozenset[str]
) -> tuple[str | None, Image]:
    """
    Return the origin that an updated image has, and the image that its attributes and types start from.

    :param before: the image as it is in the list, if it is.
    """
    if before is not None and (update.origin is None or update.origin == update.zarr_url):
        return before.origin, before
    if update.origin is None:
        return None, _NOTHING
    start = by_url.get(update.origin)
    if start is None and before is not None and update.origin in removed_before:
        # This step made the image from one that it then removed: what that gave it, it has already.
        start = before
    return update.origin, start or _NOTHING


def _overlaid(
    update: ImageUpdate, origin: str | None, start: Image, output_types: Mapping[str, bool]
) -> Image:
    attributes: dict[str, Any] = {**start.attributes, **update.attributes}
    if None in attributes.values():
        attributes = {key: value for key, value in attributes.items() if value is not None}
    types = {**start.types, **update.types, **output_types}
    return Image(update.zarr_url, origin, attributes, types)


def _implicit_updates(
    images: Sequence[Image], input_urls: Iterable[str], results: Iterable[UnitResult]
) -> list[ImageUpdate]:
    """Every input image counts as updated, but for those whose unit failed, or that are gone by now."""
    failed = {result.zarr_url for result in results if result.failed}
    if None in failed:
        return []
    present = {image.zarr_url for image in images}
    return [ImageUpdate(url) for url in input_urls if url in present and url not in failed]


def _same_update(a: ImageUpdate, b: ImageUpdate) -> bool:
    """Tell whether one repeats the other exactly: Python takes True, 1 and 1.0 for equal, JSON does not."""
    return a == b and all(type(value) is type(b.attributes[key]) for key, value in a.attributes.items())
