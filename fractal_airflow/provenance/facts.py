"""What a run of a workflow did, as plain values: its report and its provenance are made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

StepEnd = Literal["done", "failed", "skipped", "left out", "not reached"]
"""``skipped``: it had nothing to do. ``left out``: it is outside the part of the workflow that was to run."""


@dataclass(frozen=True, slots=True)
class FailedUnit:
    """
    The images of one unit that failed: one image, or all images of a command that gets the whole list.

    :param zarr_urls: empty for a command that gets no images.
    :param log: path of the unit's log, on the machine that ran it.
    :param link: address of its task instance in Airflow.
    """

    zarr_urls: Sequence[str]
    error: str
    log: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class StepFacts:
    """
    What became of one step.

    :param index: its place in the workflow.
    :param number: its place among the steps of the DAG.
    :param arguments: the arguments as they were, ``{"non_parallel": …, "parallel": …}``; None if it did not run.
    :param error: why the step as a whole failed, where it is not only that units failed.
    :param counts: how many images have which status; those that stand are done.
    :param standing: how many count as failed by Fractal's rule alone: another unit of a compound step failed.
    :param written: how many images it has made, edited and removed.
    """

    index: int
    number: int
    name: str
    task_name: str
    task_key: str
    package: str
    version: str | None
    type: str
    end: StepEnd
    description: str | None = None
    type_filters: Mapping[str, bool] = field(default_factory=dict)
    meta_non_parallel: Mapping[str, Any] = field(default_factory=dict)
    meta_parallel: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] | None = None
    resource: str = "local"
    error: str | None = None
    error_link: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    standing: int = 0
    failed: Sequence[FailedUnit] = ()

    @property
    def ran(self) -> bool:
        """Whether any of its commands may have been run."""
        return self.arguments is not None

    @property
    def is_converter(self) -> bool:
        """Whether it gets no images."""
        return self.type.startswith("converter")

    @property
    def image_count(self) -> int:
        """How many images it was given."""
        return 0 if self.is_converter else sum(self.counts.values())

    @property
    def failed_count(self) -> int:
        """How many of its images failed."""
        return self.counts.get("failed", 0)

    @property
    def seconds(self) -> float | None:
        """How long it took, from its selection to its merge."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class RunFacts:
    """
    What became of one run of a workflow.

    :param task_id: the task that reports: a DAG may run several workflows.
    :param parameters: what the run chose: its filters, and which images.
    :param versions: the dataset's version before the first step and after the last.
    :param agent: who started the run; None where it started by itself.
    :param software: the versions of what ran it, by name.
    """

    dag_id: str
    run_id: str
    task_id: str
    workflow_name: str
    workflow_description: str | None
    dataset: str
    zarr_dir: str
    steps: Sequence[StepFacts]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: tuple[int | None, int | None] = (None, None)
    agent: str | None = None
    link: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    reported_at: datetime | None = None

    @property
    def steps_that_ran(self) -> list[StepFacts]:
        """The steps whose commands may have been run, in order."""
        return [step for step in self.steps if step.ran]

    @property
    def failed_steps(self) -> list[StepFacts]:
        """The steps that failed, or of which an image did."""
        return [step for step in self.steps if step.end == "failed"]

    @property
    def started_at(self) -> datetime | None:
        """When the first step began."""
        return min((step.started_at for step in self.steps if step.started_at), default=None)

    @property
    def ended_at(self) -> datetime | None:
        """When the last step ended."""
        return max((step.ended_at for step in self.steps if step.ended_at), default=None)
