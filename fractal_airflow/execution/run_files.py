"""What is read of a run's folder for people: the logs of its units, and how they ended, or how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.runner.reading import MISSING, OUTSIDE


@dataclass(frozen=True)
class UnitFiles:
    """What there is of one unit.

    :param zarr_url: None where it is one command over all images.
    :param status: ``done`` or ``failed``; ``started`` or ``waiting`` without a result.
    :param error: why it failed, in a line.
    """

    zarr_url: str | None
    status: str
    log: str
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class BatchFiles:
    """The newest attempt at running a batch."""

    folder: str
    units: list[UnitFiles]


def batch_files(reply: Mapping[str, Any] | None) -> BatchFiles | None:
    """Return what was found of a batch."""
    if reply is None:
        return None
    return BatchFiles(reply["folder"], [UnitFiles(**unit) for unit in reply["units"]])


def text_of(reply: Mapping[str, Any], path: str, where: str, work_dir: str) -> str:
    """Return the text that was read.

    :param where: the machine, for messages: ``on login``.
    :raises FileNotFoundError: if there is no such file.
    :raises WorkFolderError: if it was not read.
    """
    problem = reply.get("problem")
    if problem == MISSING:
        raise FileNotFoundError(f"There is no {path} {where}")
    if problem == OUTSIDE:
        raise WorkFolderError(
            f"{path} is not read: it does not lie in the folder of its run in the resource's work folder, "
            f"{work_dir}. Has the work_dir of its connection been changed since?"
        )
    if problem:
        raise WorkFolderError(f"{path} cannot be read {where}: {problem}")
    text: str = reply["text"]
    return f"[… {reply['left_out']} bytes left out …]\n{text}" if reply["left_out"] else text
