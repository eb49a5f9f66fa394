"""How the units of a step are cut into batches, and what a batch is called in the Airflow UI."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import PurePosixPath

logger = logging.getLogger(__name__)

# A batch pays seconds for its warm start, and an Airflow task instance of its own: at five minutes a
# batch that is about one per cent, and a step that ends unevenly wastes no more than that.
LONG_BATCH_SECONDS = 300.0
# Where nothing is known of a unit's time, batches are cut by count, gently: an unknown unit may take
# milliseconds.
LARGE_BATCH_UNITS = 1000
MOST_WAVES_BY_COUNT = 4
MAX_LABEL_LENGTH = 120


def plan_batches(
    n_units: int,
    *,
    slots: int,
    images_per_batch: int | None = None,
    max_batches: int = 1024,
    unit_seconds: float | None = None,
) -> list[int]:
    """Return the sizes of the batches, in order, as even as possible.

    By itself it makes as many batches as can run at once, and a multiple of that where they would be long.

    :param slots: how many batches can run at once.
    :param images_per_batch: at most this many units in a batch, in place of the automatic choice.
    :param max_batches: never more batches than this; a smaller ``images_per_batch`` is raised.
    :param unit_seconds: how long a unit takes, known from earlier runs.
    """
    if n_units <= 0:
        return []
    if images_per_batch is not None:
        count = _count_by_size(n_units, images_per_batch, max_batches)
    else:
        count = _count_by_slots(n_units, max(1, slots), max_batches, unit_seconds)
    small, rest = divmod(n_units, count)
    return [small + 1] * rest + [small] * (count - rest)


def _count_by_size(n_units: int, images_per_batch: int, max_batches: int) -> int:
    count = math.ceil(n_units / max(1, images_per_batch))
    if count > max_batches:
        logger.warning(
            "images_per_batch=%d would make %d batches of %d images, more than the %d that are possible: "
            "using %d images per batch",
            images_per_batch, count, n_units, max_batches, math.ceil(n_units / max_batches),
        )  # fmt: skip
    return min(count, max_batches)


def _count_by_slots(n_units: int, slots: int, max_batches: int, unit_seconds: float | None) -> int:
    per_slot = n_units / slots
    if unit_seconds is None:
        waves = min(MOST_WAVES_BY_COUNT, math.ceil(per_slot / LARGE_BATCH_UNITS))
    else:
        waves = math.ceil(per_slot * unit_seconds / LONG_BATCH_SECONDS)
    # Whole waves: a last wave that fills only some of the slots leaves the others idle.
    waves = max(1, min(waves, max_batches // slots))
    return min(slots * waves, n_units, max_batches)


def label_prefix(zarr_urls: Sequence[str], zarr_dir: str) -> str:
    """Return the folder that labels leave out: what all images share, no further than their plate."""
    parts = [url.split("/") for url in zarr_urls]
    shared = 0
    for level in zip(*(path[:-1] for path in parts), strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
        if level[0].endswith(".zarr"):
            break
    common = "/".join(parts[0][:shared]) if parts else ""
    if shared and parts[0][shared - 1].endswith(".zarr"):
        return common
    return max(zarr_dir, common, key=len) if common.startswith(zarr_dir) else common


def batch_label(zarr_urls: Sequence[str], prefix: str) -> str:
    """Return what a batch is called: its only image, or its first and last one and how many there are.

    >>> batch_label(["/d/p.zarr/B/03/0"], "/d/p.zarr")
    'B/03/0'
    >>> batch_label(["/d/p.zarr/B/03/0", "/d/p.zarr/B/12/0"], "/d/p.zarr")
    'B/03/0 … B/12/0 (2)'

    :param prefix: a folder that is left out of each image's path (see :func:`label_prefix`).
    """
    if not zarr_urls:
        return ""
    first, last = (_short(url, prefix) for url in (zarr_urls[0], zarr_urls[-1]))
    if len(set(zarr_urls)) == 1:
        return first if len(zarr_urls) == 1 else f"{first} ({len(zarr_urls)})"
    return f"{first} … {last} ({len(zarr_urls)})"


def _short(zarr_url: str, prefix: str) -> str:
    name = zarr_url.removeprefix(prefix.rstrip("/") + "/") if prefix else zarr_url
    if PurePosixPath(name).suffix == ".zarr":
        name = name.removesuffix(".zarr")
    name = "".join(char if char.isprintable() else "?" for char in name)
    if len(name) > MAX_LABEL_LENGTH // 2:
        name = "…" + name[-(MAX_LABEL_LENGTH // 2 - 1) :]
    return name
