"""The half of the store that knows what runs did: calls of steps, statuses of images, what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fractal_airflow.dataset import datasets, pending, settling, writes
from fractal_airflow.dataset.connected import ConnectedStore
from fractal_airflow.dataset.records import (
    ImageStatus,
    ImageWrite,
    Merged,
    Status,
    StatusRecord,
    StepCall,
    StepRecord,
    StepRun,
)
from fractal_airflow.dataset.statuses import (
    has_leftovers,
    mean_seconds,
    read_statuses,
    submitted_urls,
    write_statuses,
    write_submitted,
)
from fractal_airflow.dataset.step_records import names_of_datasets, read_step_runs
from fractal_airflow.dataset.steps import (
    count_merge,
    record_call,
    record_end,
    set_announced,
    step_run_id,
)


class RunHistory(ConnectedStore):
    """What the steps of runs did to a dataset, and what follows from it for the next run."""

    def submit(self, name: str, step: StepRun, call: StepCall, zarr_urls: Iterable[str]) -> None:
        """Record that a step has selected these images: they are submitted to it.

        What this very step run left of others, submitted or failed, in an earlier try is forgotten. A step
        that has nothing to do, nor ever had in this run, leaves no trace.

        :param zarr_urls: none: the step has nothing to do (any more).
        """
        urls = list(zarr_urls)
        if not urls and not self._has_leftovers(name, step):
            return
        with self._writing() as connection:
            own_id = step_run_id(connection, datasets.require(connection, name, lock=True), step)
            if urls:
                record_call(connection, own_id, call)
            else:
                record_end(connection, own_id)
            write_submitted(connection, own_id, urls, call.fingerprint)

    def _has_leftovers(self, name: str, step: StepRun) -> bool:
        with self._reading() as connection:
            return has_leftovers(connection, datasets.require(connection, name), step)

    def record_statuses(
        self, name: str, step: StepRun, statuses: Sequence[ImageStatus], *, only_submitted: bool = False
    ) -> None:
        """Record how images fared in a step, without a change of the image list.

        :param only_submitted: only of those that are submitted to this step run and not recorded yet: what
            stands of the others stays as it is.
        """
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            own_id = step_run_id(connection, head, step)
            if only_submitted:
                submitted = submitted_urls(connection, own_id)
                statuses = [status for status in statuses if status.zarr_url in submitted]
                if not statuses:
                    return
            write_statuses(connection, own_id, statuses, count_merge(connection, head, [own_id]))

    def announce(self, name: str) -> Merged | None:
        """Take up all that was merged since the last announcement, for an event; None: nothing was written."""
        with self._reading() as connection:
            if not writes.anything_unannounced(connection, datasets.require(connection, name)):
                return None  # mostly, and no other writer is waited for
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            told = writes.unannounced(connection, head)
            set_announced(connection, head, head.merges)
            return told

    def settle(self, name: str, run_state: Callable[[str, str], str | None]) -> int:
        """Let no image stay submitted to a run that has ended: it failed there. Returns how many did.

        :param run_state: tells a DAG run's state by its dag_id and run_id; None: there is no such run any more.
            Asked once a run, while nobody waits for this.
        """
        with self._reading() as connection:
            runs = settling.waiting_runs(connection, datasets.require(connection, name))
        states = {run: run_state(*run) for run in runs}
        ended = {run: state for run, state in states.items() if state not in settling.GOING_ON}
        if not ended:
            return 0
        with self._writing() as connection:
            return settling.settle(connection, datasets.require(connection, name, lock=True), ended)

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
            return read_statuses(connection, head.id, wanted, status=status, latest=latest)

    def mean_seconds(self, task: str, name: str | None = None) -> float | None:
        """The mean time of a finished unit of this task, in its newest run that has any.

        :param name: look at this dataset alone.
        """
        with self._reading() as connection:
            return mean_seconds(connection, task, name)

    def step_runs(self, name: str, dag_id: str | None = None, run_id: str | None = None) -> list[StepRecord]:
        """The steps that have run on the dataset, oldest first."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return read_step_runs(connection, head, dag_id, run_id)

    def datasets_of(self, dag_id: str, run_id: str) -> list[str]:
        """The names of the datasets that a run works on."""
        with self._reading() as connection:
            return names_of_datasets(connection, dag_id, run_id)

    def writes(self, name: str, step: StepRun) -> list[ImageWrite]:
        """What a step run did to which images."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return writes.read_writes(connection, head, step)

    def unchanged(self, name: str, step: StepRun, fingerprint: str, *, any_dag: bool = False) -> set[str]:
        """The images that need not be computed again at this step.

        :param any_dag: whatever another DAG has written since counts, also where it came later than this step.
        """
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return pending.unchanged(connection, head, step, fingerprint, any_dag=any_dag)

    def failed_before(self, name: str, step: StepRun) -> set[str]:
        """The images that failed when this step saw them last, in another run."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return pending.failed_before(connection, head, step)

    def failed_in_run(self, name: str, dag_id: str, run_id: str, before_step: int) -> set[str]:
        """The images that failed at an earlier step of this run."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return pending.failed_in_run(connection, head, dag_id, run_id, before_step)

    def written_in_run(self, name: str, dag_id: str, run_id: str, before_step: int) -> set[str]:
        """The images that earlier steps of this run made or edited."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return writes.written_in_run(connection, head, dag_id, run_id, before_step)

    def written_between(
        self, name: str, since: int, merge: int, *, except_dag_id: str | None = None
    ) -> set[str]:
        """The images that were made or edited after merge number ``since``, up to number ``merge``.

        :param except_dag_id: a DAG whose own writes do not count.
        """
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return writes.written_between(connection, head, since, merge, except_dag_id)
