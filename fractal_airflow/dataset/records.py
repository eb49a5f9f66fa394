"""What goes into the dataset store and what comes out of it: plain values, without any database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from fractal_airflow.exceptions import DatasetError
from fractal_airflow.fractal.images import Image

Status = Literal["done", "failed", "submitted", "unset"]
VersionOrigin = Literal["created", "imported", "merged", "restored"]
WriteKind = Literal["made", "edited", "removed"]

NO_IMAGE = ""
"""The ``zarr_url`` under which the status of a whole step is kept that gets no images: a converter."""

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
class StepCall:
    """What a step is asked to do in one run: the task as it runs, for the history.

    :param name: the workflow task's own name.
    :param arguments: the effective ones, as they are stored as JSON.
    :param fingerprint: what the results depend on, as one short text.
    :param resource: where the units run.
    """

    package: str
    version: str | None
    name: str
    arguments: dict[str, Any]
    fingerprint: str
    resource: str


class Snapshot(NamedTuple):
    """The newest image list with its version.

    ``mark`` is the number of merges into the dataset so far: given to :meth:`DatasetStore.merge`, it tells
    what others have merged since.
    """

    version: int
    images: list[Image]
    mark: int


class ImageWrite(NamedTuple):
    """What a step run did to one image."""

    zarr_url: str
    kind: WriteKind


@dataclass(slots=True, frozen=True)
class ImageStatus:
    """How one image fared in one step.

    :param fingerprint: what the result depends on (package version and arguments), as one short text.
    :param log: path of the unit's own log file.
    :param try_number: the try of the task instance that ran it.
    :param warnings: what the log warns of.
    :param computed: whether its result stands; None: if it is done. (A compound step can fail an image by
        Fractal's rules though what belongs to it was computed.)
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
    try_number: int | None = None
    warnings: tuple[str, ...] = ()
    computed: bool | None = None

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise DatasetError(
                f"Image {self.zarr_url!r} cannot have the status {self.status!r}: "
                f"use one of {', '.join(get_args(Status))}."
            )


@dataclass(slots=True, frozen=True, kw_only=True)
class StatusRecord(ImageStatus):
    """A status as it is kept: with the step run it belongs to, and when it was written.

    ``merge`` is the number of the merge that recorded it; 0 for what is submitted, or older than the numbers.
    """

    dag_id: str
    run_id: str
    step: int
    task: str
    recorded_at: datetime
    merge: int


@dataclass(slots=True, frozen=True, kw_only=True)
class StepRecord:
    """One step of one DAG run as the history has it.

    What was called is None where it was never told: by runs of an earlier fractal_airflow.

    :param ended_at: when its results were merged last, or its statuses recorded; None while it runs.
    :param merge: the number of that merge.
    :param versions: those that its merges made.
    :param statuses: how many of its images have each status.
    """

    dag_id: str
    run_id: str
    step: int
    task: str
    package: str | None
    version: str | None
    name: str | None
    arguments: dict[str, Any] | None
    fingerprint: str | None
    resource: str | None
    started_at: datetime | None
    ended_at: datetime | None
    merge: int
    versions: list[int]
    statuses: dict[Status, int]
    made: int
    edited: int
    removed: int


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
    """What a merge changed in the image list, as ``zarr_url`` lists; ``version`` is the one it left.

    :param merge: its number among the dataset's merges.
    :param since: the number of the merge up to which the dataset's changes were announced before this one, and
        before any earlier merge of the same step run.
    :param written: how many images its step made or edited, though their entries may be the same as before.
    """

    version: int
    added: list[str]
    updated: list[str]
    removed: list[str]
    merge: int = 0
    since: int = 0
    written: int = 0


@dataclass(slots=True, frozen=True)
class Diff:
    """What differs between two versions; ``changed`` holds pairs of before and after."""

    added: list[Image]
    removed: list[Image]
    changed: list[tuple[Image, Image]]
