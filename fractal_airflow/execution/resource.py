"""What a resource is: the place where the units of a batch run; and how its configuration is checked."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractal_airflow.execution.resource_config import JobsRunnerConfig, ResourceConfig, load_resource_config
from fractal_airflow.execution.run_files import BatchFiles
from fractal_airflow.execution.units import ErrorKind, Outcome, Work

__all__ = [
    "BatchCall", "BatchEnd", "BatchFiles", "JobsRunnerConfig", "Resource", "ResourceConfig", "load_resource_config",
    "make_resource",
]  # fmt: skip


@dataclass(frozen=True)
class BatchCall:
    """What an operator asks of a resource: to run the units of one batch.

    :param units: the complete arguments of each unit, as they go into its args file.
    :param command: an argument list, never shell text; ``--args-json`` and ``--out-json`` are added to it.
    :param folder: the batch's folder, in which its attempts are.
    :param generation: what the retries of a task instance share, and clearing it changes.
    :param meta: how to run the units: the task's effective ``meta``.
    :param label: what the batch is called, for people.
    :param account: the SLURM account that the run is to be charged to.
    :param worker_init: lines of shell that the job runs before its units.
    :param memory_factor: how many times the usual memory the units get: above 1 after one ran out of it.
    :param time_factor: how many times the usual time the units get.
    :param left: how many units still have to run, where that is known.
    """

    units: list[dict[str, Any]]
    command: tuple[str, ...]
    folder: str
    generation: str
    meta: Mapping[str, Any]
    label: str = ""
    account: str | None = None
    worker_init: tuple[str, ...] | None = None
    memory_factor: float = 1
    time_factor: float = 1
    left: int | None = None

    def work(self, parallel: int = 1) -> Work:
        """Return what is run, so many units at a time."""
        return Work(self.command, self.units, parallel, bool(self.meta.get("warm_start", True)))


@dataclass(frozen=True)
class BatchEnd:
    """What came of a batch.

    :param folder: the folder of the attempt.
    :param outcomes: how each unit ended, in order.
    :param usage: what the batch's job used, against what was asked for; None on this machine.
    :param cancelled_by: who of us cancelled the job: another try of the task instance, most likely.
    :param taken: whether the results have been taken on the way.
    """

    folder: str
    outcomes: list[Outcome]
    usage: dict[str, Any] | None = None
    cancelled_by: str | None = None
    taken: bool = False


class Resource(ABC):
    """A place where the units of batches run.

    :cvar defers: whether a batch runs elsewhere, so that a trigger can wait for it without a worker slot.
    """

    type: str
    work_dir: Path
    defers: bool = False

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many batches can run at once."""

    @abstractmethod
    def plan(
        self,
        n_units: int,
        meta: Mapping[str, Any],
        *,
        images_per_batch: int | None = None,
        unit_seconds: float | None = None,
        max_batches: int = 1024,
    ) -> list[int]:
        """Return the sizes of the batches for so many units."""

    @abstractmethod
    def run(self, call: BatchCall, *, log: logging.Logger) -> BatchEnd:
        """Run the units that have no good result yet, and wait for them.

        :raises ResourceError: if the resource itself fails, so that trying other units makes no sense.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the running batch, and every process that it started."""

    @abstractmethod
    def read_outcomes(self, folder: str, count: int) -> list[Outcome]:
        """Return the outcomes that an attempt's folder holds, in the order of its units."""

    @abstractmethod
    def reject(self, folder: str, messages: Mapping[int, str]) -> None:
        """Turn good results of an attempt into failed ones, so that a retry runs these units again.

        For outputs that are JSON but break the schema of task outputs.

        :param messages: what is wrong, by the index of the unit.
        """

    @abstractmethod
    def take(self, folder: str) -> None:
        """Note that the complete results of an attempt were taken: only their own retry adopts it now."""

    @abstractmethod
    def read_text(self, run: str, path: str, max_bytes: int) -> str:
        """Return a text file of a run: where it is longer, its end, below a line that says so.

        :param run: what the run's folder is called (see :func:`run_name`): nothing outside of it is read.
        :raises FileNotFoundError: if it is not there, or not any more.
        :raises WorkFolderError: if it cannot be read, or does not lie in the run's folder.
        """

    @abstractmethod
    def read_log(
        self, step_folder: str, index: int, unit: int, max_bytes: int, *, whole_list: bool
    ) -> str | None:
        """Return the log of one unit of the newest attempt of a batch; None where there is no attempt.

        :param unit: its place in the batch.
        :param whole_list: as in :meth:`read_batch`.
        :raises FileNotFoundError: if there is no log of it.
        :raises WorkFolderError: if it cannot be read, or does not lie in the run's folder.
        """

    @abstractmethod
    def read_batch(self, step_folder: str, index: int, *, whole_list: bool) -> BatchFiles | None:
        """Return what the newest attempt of a batch has left so far; None where there is none.

        :param whole_list: whether the batch is one command over all images: the first of a step's two halves.
        """

    @abstractmethod
    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files into a folder, which is made where it is missing; each is there as a whole or not at all.

        :raises WorkFolderError: if they cannot be written.
        """

    @abstractmethod
    def read_file(self, path: str) -> bytes | None:
        """Return a file of any folder; None where there is none.

        :raises WorkFolderError: if it cannot be read.
        """

    def close(self) -> None:
        """Close the connection, if there is one; a later call opens a new one."""
        return

    def with_more(self, call: BatchCall, kinds: Collection[ErrorKind]) -> BatchCall | None:
        """Return the call for another try, with more of what units ran out of; None if there is no more.

        :param kinds: how units failed.
        """
        return None

    def leftovers(self, step_folder: str) -> list[str]:
        """End what still runs of a step whose task instances are gone; return what it was.

        On this machine nothing outlives its task instance.
        """
        return []


def make_resource(config: ResourceConfig | Mapping[str, Any]) -> Resource:
    """Return the resource that a configuration describes.

    :raises ResourceError: if the configuration is bad.
    """
    if not isinstance(config, ResourceConfig):
        config = load_resource_config(config)
    if config.type == "local":
        from fractal_airflow.execution.local import LocalResource

        return LocalResource(config.work_dir, config.jobs_runner_config)
    from fractal_airflow.execution.slurm.resource import SlurmResource

    return SlurmResource(config)
