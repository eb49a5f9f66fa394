"""What a resource is: the place where the units of a batch run, and how its configuration is checked."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.batching import plan_batches
from fractal_airflow.execution.run_folder import Attempt
from fractal_airflow.execution.units import Outcome, Work

PositiveInt = Annotated[int, Field(ge=1)]


class JobsRunnerConfig(BaseModel):
    """How jobs are run; the SLURM keys are those that Fractal administrators already have.

    :param parallel_tasks_per_job: on ``local``, how many units run at once on this machine.
    :param units_at_a_time: on ``local``, how many units one batch runs at a time.
    """

    model_config = ConfigDict(extra="forbid")

    parallel_tasks_per_job: PositiveInt | None = None
    units_at_a_time: PositiveInt = 1
    default_slurm_config: dict[str, Any] | None = None
    gpu_slurm_config: dict[str, Any] | None = None
    batching_config: dict[str, Any] | None = None
    user_local_exports: dict[str, str] | None = None


class ResourceConfig(BaseModel):
    """The configuration of a resource: the extra of an Airflow connection of type ``fractal``.

    :param work_dir: the absolute folder under which run folders are made.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["local", "slurm", "slurm_ssh"] = "local"
    work_dir: Path
    ssh_conn_id: str | None = None
    jobs_runner_config: JobsRunnerConfig = Field(default_factory=JobsRunnerConfig)

    @field_validator("work_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        path = value.expanduser()
        if not path.is_absolute():
            raise ValueError(f"{str(value)!r} is not an absolute path")
        return path


class Resource(ABC):
    """A place where the units of batches run."""

    type: str
    work_dir: Path

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many batches can run at once."""

    @abstractmethod
    def units_at_a_time(self, meta: Mapping[str, Any]) -> int:
        """Return how many units a batch runs at a time: the ``parallel`` of its work."""

    @abstractmethod
    def run(self, work: Work, attempt: Attempt, *, log: logging.Logger) -> list[Outcome]:
        """Run the units that have no good result yet; return the outcome of every unit, in order.

        :raises ResourceError: if the resource itself fails, so that trying other units makes no sense.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the running batch, and every process that it started."""

    @abstractmethod
    def read_outcomes(self, folder: str, count: int) -> list[Outcome]:
        """Return the outcomes that an attempt's folder holds, in the order of its units."""

    def plan(
        self,
        n_units: int,
        meta: Mapping[str, Any],
        *,
        images_per_batch: int | None = None,
        unit_seconds: float | None = None,
        max_batches: int = 1024,
    ) -> list[int]:
        """Return the sizes of the batches for so many units (see :func:`plan_batches`)."""
        at_a_time = self.units_at_a_time(meta)
        return plan_batches(
            n_units,
            slots=self.slots,
            images_per_batch=images_per_batch,
            max_batches=max_batches,
            unit_seconds=None if unit_seconds is None else unit_seconds / at_a_time,
        )


def load_resource_config(data: Mapping[str, Any]) -> ResourceConfig:
    """Check a resource's configuration.

    :raises ResourceError: naming every key that is wrong.
    """
    try:
        return ResourceConfig.model_validate(dict(data))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {item['msg']}" for item in error.errors()
        )
        raise ResourceError(f"Bad configuration of the resource: {problems}") from error


def make_resource(config: ResourceConfig | Mapping[str, Any]) -> Resource:
    """Return the resource that a configuration describes.

    :raises ResourceError: if the configuration is bad, or its type comes with a later version.
    """
    from fractal_airflow.execution.local import LocalResource

    if not isinstance(config, ResourceConfig):
        config = load_resource_config(config)
    if config.type != "local":
        raise ResourceError(
            f"Resources of type {config.type!r} come with a later version of fractal_airflow; "
            "this version has 'local'."
        )
    return LocalResource(config.work_dir, config.jobs_runner_config)
