"""The half of the store that knows what runs did: calls of steps, statuses of images, what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fractal_airflow.dataset import datasets
from fractal_airflow.dataset.connected import ConnectedStore
from fractal_airflow.dataset.records import (
    ImageStatus,
    ImageWrite,
    Status,
    StatusRecord,
    StepCall,
    StepRecord,
    StepRun,
)
from fractal_airflow.dataset.statuses import mean_seconds, read_statuses, write_statuses
from fractal_airflow.dataset.steps import step_run_id


class RunHistory(ConnectedStore):
    """What the steps of runs did to a dataset, and what follows from it for the next run."""

    def submit(self, name: str, step: StepRun, call: StepCall, zarr_urls: Iterable[str]) -> None:
        """Record that a step begins, and that these images are submitted to it.

        What an earlier submission of this very step run left as submitted is forgotten.
        """
        raise NotImplementedError

    def record_statuses(self, name: str, step: StepRun, statuses: Sequence[ImageStatus]) -> None:
        """Record how images fared in a step, without a change of the image list."""
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            write_statuses(connection, step_run_id(connection, head, step), statuses)

    def settle(self, name: str, run_state: Callable[[str, str], str | None]) -> int:
        """Let no image stay submitted to a run that has ended: it failed there. Returns how many did.

        :param run_state: tells a DAG run's state by its dag_id and run_id; None: there is no such run any more.
            Asked once a run, while nobody waits for this.
        """
        raise NotImplementedError

    def statuses(
        self,
        name: str,
        *,
        zarr_url: str | None = None,
        step: int | None = None,
        task: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        status: Status | None = None,
        latest: bool = True,
    ) -> list[StatusRecord]:
        """The statuses of the dataset's images, oldest first, narrowed down by whatever is given.

        :param status: only those that are this; with ``latest``, only where the newest is.
        :param latest: only the newest for each step, task and image; else those of all runs.
        """
        wanted = {"zarr_url": zarr_url, "step": step, "task": task, "dag_id": dag_id, "run_id": run_id}
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return read_statuses(connection, head.id, wanted, latest=latest)

    def mean_seconds(self, task: str, name: str | None = None) -> float | None:
        """The mean time of a finished unit of this task, in its newest run that has any.

        :param name: look at this dataset alone.
        """
        with self._reading() as connection:
            return mean_seconds(connection, task, name)

    def step_runs(self, name: str, dag_id: str | None = None, run_id: str | None = None) -> list[StepRecord]:
        """The steps that have run on the dataset, oldest first."""
        raise NotImplementedError

    def writes(self, name: str, step: StepRun) -> list[ImageWrite]:
        """What a step run did to which images."""
        raise NotImplementedError

    def unchanged(self, name: str, step: StepRun, fingerprint: str) -> set[str]:
        """The images that need not be computed again at this step."""
        raise NotImplementedError

    def failed_before(self, name: str, step: StepRun) -> set[str]:
        """The images that failed when this step saw them last, in another run."""
        raise NotImplementedError

    def failed_in_run(self, name: str, dag_id: str, run_id: str, before_step: int) -> set[str]:
        """The images that failed at an earlier step of this run."""
        raise NotImplementedError

    def written_in_run(self, name: str, dag_id: str, run_id: str, before_step: int) -> set[str]:
        """The images that earlier steps of this run made or edited."""
        raise NotImplementedError

    def written_between(self, name: str, since: int, merge: int) -> set[str]:
        """The images that were made or edited after merge number ``since``, up to number ``merge``."""
        raise NotImplementedError
