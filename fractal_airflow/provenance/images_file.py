"""The images that a step was given and those that it wrote: a line each, in CSV files. A run may have a million."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class InputImage(NamedTuple):
    """An image that a step was given, and how it fared."""

    zarr_url: str
    status: str
    seconds: float | None = None


def input_csv(images: Iterable[InputImage]) -> bytes:
    """Return the file of the images that a step was given, in the order of the history: that of their URLs."""
    rows = ((url, status, "" if seconds is None else f"{seconds:.3f}") for url, status, seconds in images)
    return _csv(("zarr_url", "status", "seconds"), rows)


def output_csv(images: Iterable[tuple[str, str]]) -> bytes:
    """
    Return the file of the images that a step wrote.

    :param images: each with what became of it: ``made``, ``edited`` or ``removed``.
    """
    return _csv(("zarr_url", "change"), images)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
