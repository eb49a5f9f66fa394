"""How the outputs of a step change the image list."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput
from fractal_airflow.fractal.urls import is_below

UnitStatus = Literal["done", "failed"]


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

    :param results: of all units, in their order.
    :param input_urls: the images that the step was given.
    :param already_removed: what an earlier merge of this very step removed: no error if it is removed again.
    :raises ImageListError: where the outputs contradict each other or the image list.
    """
    output = merge_outputs(result.output for result in results if result.output and not result.failed)
    if not output.image_list_updates and not output.image_list_removals:
        output = TaskOutput(_implicit_updates(images, input_urls, results))
    return apply_output(
        images, output, zarr_dir=zarr_dir, output_types=output_types, already_removed=already_removed
    )


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

    :raises ImageListError: for a new image outside ``zarr_dir``, or the removal of one that is not there.
    """
    by_url = {image.zarr_url: image for image in images}
    for update in output.image_list_updates:
        by_url[update.zarr_url] = _updated(by_url, update, zarr_dir, output_types)
    removed_before = frozenset(already_removed)
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


def _updated(
    by_url: Mapping[str, Image], update: ImageUpdate, zarr_dir: str, output_types: Mapping[str, bool]
) -> Image:
    present = by_url.get(update.zarr_url)
    if present is None and not is_below(update.zarr_url, zarr_dir):
        raise ImageListError(f"New image {update.zarr_url!r} does not lie below zarr_dir {zarr_dir!r}")
    if present is not None and update.origin in (None, update.zarr_url):
        origin, source = present.origin, present
    else:
        origin, source = update.origin, by_url.get(update.origin or "", _NOTHING)
    attributes = {**source.attributes, **update.attributes}
    return Image(
        zarr_url=update.zarr_url,
        origin=origin,
        attributes={key: value for key, value in attributes.items() if value is not None},
        types={**source.types, **update.types, **output_types},
    )


_NOTHING = Image("")


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
    return _as_text(a) == _as_text(b)


def _as_text(update: ImageUpdate) -> str:
    # Python holds True and 1 for equal; in JSON they differ.
    return json.dumps([update.origin, update.attributes, update.types], sort_keys=True)
