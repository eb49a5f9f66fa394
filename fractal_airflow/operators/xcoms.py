"""What the tasks of one step hand to each other as XComs."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from fractal_airflow.fractal.choice import ImageChoice, OnFailure

STEP_KEY = "step"
"""Under this key select tells merge what the step works on; and merge tells the report why it merged nothing."""

INIT_KEY = "init"
"""Under this key the init half of a compound task leaves its outcome: its return value is the batches."""

USAGE_KEY = "usage"
"""Under this key a task instance whose units ran on a cluster tells what its job used of what it asked for."""


class Unit(TypedDict):
    """One call of a task's command: on an image, or on a parallelization item."""

    zarr_url: str
    init_args: NotRequired[dict[str, Any]]


class Batch(TypedDict):
    """The units of one mapped task instance."""

    index: int
    label: str
    units: list[Unit]


class RunState(TypedDict):
    """
    What one step leaves to the next: the dataset, and what was chosen for the run. ``zarr_dir`` may be "".

    ``created`` tells the dataset from another one of the same name.
    ``version`` and ``mark`` say when the image list was read: its version, and how many merges there had been.
    ``events`` are the merges that the events tell of which started the run: after the first number of each
    pair, up to the second.
    """

    dataset: str
    zarr_dir: str
    type_filters: dict[str, bool]
    attribute_filters: dict[str, list[Any]]
    images: ImageChoice
    on_failure: OnFailure
    created: NotRequired[str]
    version: NotRequired[int]
    mark: NotRequired[int]
    events: NotRequired[list[list[int]]]


class StepState(TypedDict):
    """
    What select found out, for merge.

    ``active``: whether the step is in the part of the workflow that runs. ``idle``: whether it has nothing to
    do, since no image is pending, say. ``error``: why select could not go on.
    """

    run: NotRequired[RunState]
    active: NotRequired[bool]
    idle: NotRequired[bool]
    fingerprint: NotRequired[str]
    error: NotRequired[str]
