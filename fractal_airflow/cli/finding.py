"""What users name in a few letters: an image by the end of its URL, a step by its number or its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fractal_airflow.dataset import NO_IMAGE
from fractal_airflow.exceptions import DatasetError

if TYPE_CHECKING:
    from fractal_airflow.dataset import DatasetStore
    from fractal_airflow.dataset.records import StepRecord

_MOST_NAMED = 5
_MOST_COMPARED = 20_000


def image_of(store: DatasetStore, name: str, text: str) -> str:
    """
    Return the ``zarr_url`` that a text means: all of it, or an end of it that no other image has.

    Images that were removed from the dataset are found by what the history knows of them.

    :raises DatasetError: where there is none, or more than one.
    """
    zarr_dir = store.get(name).zarr_dir
    listed = [image.zarr_url for image in store.images(name)]
    found = ending_with(listed, text)
    if not found:
        listed += sorted({record.zarr_url for record in store.statuses(name)} - {*listed, NO_IMAGE})
        found = ending_with(listed, text)
    if len(found) == 1:
        return found[0]
    if found:
        raise DatasetError(
            f"Dataset {name!r} has {len(found)} images that end in {text!r}: {_named(found)}. "
            "Give more of the one that is meant"
        )
    similar = similar_to(text, (shortened(url, zarr_dir) for url in listed))
    hint = f" Is it one of these: {_named(similar)}?" if similar else ""
    raise DatasetError(
        f"Dataset {name!r} has no image {text!r}.{hint} `airflow fractal dataset images {name}` lists all"
    )


def ending_with(urls: Iterable[str], text: str) -> list[str]:
    """
    Return the one that a text is, or else all that end in it, as whole names.

    >>> ending_with(["/d/p.zarr/B/03/0", "/d/p.zarr/B/03/10"], "03/0")
    ['/d/p.zarr/B/03/0']
    """
    wanted = text.rstrip("/")
    end = "/" + wanted.lstrip("/")
    found = [url for url in urls if wanted and (url == wanted or url.endswith(end))]
    return [wanted] if wanted in found else found


def similar_to(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that are spelled most like a text."""
    known = [name for name, _ in zip(names, range(_MOST_COMPARED), strict=False)]
    whole = difflib.get_close_matches(text, known, _MOST_NAMED)
    by_end = {"/".join(name.split("/")[-text.count("/") - 1 :]): name for name in known}
    return whole or [by_end[end] for end in difflib.get_close_matches(text, by_end, _MOST_NAMED)]


def shortened(zarr_url: str, zarr_dir: str) -> str:
    """Return a ``zarr_url`` without the dataset's folder."""
    return zarr_url.removeprefix(zarr_dir.rstrip("/") + "/")


def steps_of(records: Sequence[StepRecord], text: str) -> set[tuple[int, str]]:
    """
    Return the steps, as number and task, that a text means: by number, or by the name of the step or its task.

    :raises DatasetError: where there is none.
    """
    if text.isdecimal():
        found = {(each.step, each.task) for each in records if each.step == int(text)}
    else:
        found = {(each.step, each.task) for each in records if _plain(text) in _names_of(each)}
    if found:
        return found
    known = sorted({(each.step, step_name(each.name, each.task)) for each in records})
    listed = ", ".join(f"{number} ({name})" for number, name in known) or "none has run on it yet"
    raise DatasetError(f"There is no step {text!r} in the history of the dataset; its steps: {listed}")


def step_name(name: str | None, task: str) -> str:
    """Return what a step is called: the task's name, where an earlier version noted no other."""
    return name or task.rpartition("/")[2]


def _names_of(record: StepRecord) -> set[str]:
    names = {record.task, record.task.rpartition("/")[2], record.name or ""}
    plain = {_plain(name) for name in names if name}
    return plain | {f"{record.step}_{name}" for name in plain}  # as the task groups are called


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
