"""What goes into the dataset store and what comes out of it: plain values, without any database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from fractal_airflow.exceptions import DatasetError
from fractal_airflow.fractal.images import Image

Status = Literal["done", "failed", "submitted", "unset"]
VersionOrigin = Literal["created", "imported", "merged", "restored"]

_STATUSES = frozenset(get_args(Status))


@dataclass(slots=True, frozen=True)
class Dataset:
    """A dataset as it is now, without its images."""

    name: str
    zarr_dir: str
    version: int
    image_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True, frozen=True)
class StepRun:
    """One step of one DAG run: who asks for a merge, or whose status it is."""

    dag_id: str
    run_id: str
    step: int
    task: str


@dataclass(slots=True, frozen=True)
class ImageStatus:
    """How one image fared in one step.

    :param fingerprint: what the result depends on (package version and arguments), as one short text.
    :param log: path of the unit's own log file.
    :raises DatasetError: if ``status`` is none of the known words.
    """

    zarr_url: str
    status: Status
    map_index: int | None = None
    log: str | None = None
    fingerprint: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    max_rss_mb: float | None = None

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise DatasetError(
                f"Image {self.zarr_url!r} cannot have the status {self.status!r}: "
                f"use one of {', '.join(get_args(Status))}."
            )


@dataclass(slots=True, frozen=True, kw_only=True)
class StatusRecord(ImageStatus):
    """A status as it is kept: with the step run it belongs to, and when it was written."""

    dag_id: str
    run_id: str
    step: int
    task: str
    recorded_at: datetime


@dataclass(slots=True, frozen=True)
class Version:
    """One version of an image list: who made it, and what changed against the one before.

    ``dag_id``, ``run_id``, ``step`` and ``task`` are set where a merge made it.
    """

    version: int
    created_at: datetime
    what: VersionOrigin
    image_count: int
    added: int
    updated: int
    removed: int
    dag_id: str | None = None
    run_id: str | None = None
    step: int | None = None
    task: str | None = None


@dataclass(slots=True, frozen=True)
class Merged:
    """What a merge changed in the image list, as ``zarr_url`` lists; ``version`` is the one it left."""

    version: int
    added: list[str]
    updated: list[str]
    removed: list[str]


@dataclass(slots=True, frozen=True)
class Diff:
    """What differs between two versions; ``changed`` holds pairs of before and after."""

    added: list[Image]
    removed: list[Image]
    changed: list[tuple[Image, Image]]
