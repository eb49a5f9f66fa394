"""The triggers of the tasks that run units: one waits for a job, the other until a job can be submitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.runner.text import has_nul
from fractal_airflow.triggers.killing import GOES_ON, task_state, warm_up
from fractal_airflow.triggers.watcher import ClusterWatcher, cluster_watcher

if TYPE_CHECKING:
    from fractal_airflow.execution.slurm.cluster import AsyncCluster
    from fractal_airflow.execution.slurm.messages import Collected, JobStatus, Submitted
    from fractal_airflow.execution.slurm.watch import JobWatch

T = TypeVar("T")

EVENT_LIMIT_BYTES = 256 * 1024
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
CANCEL_SECONDS = 3600.0
LEAST_COLLECT_SECONDS = 60.0


class ClusterTrigger(BaseTrigger):
    """
    Base of the triggers of one task instance that has, or may have, a job on a cluster.

    :param resource: the name of the Airflow connection that leads to the cluster.
    :param waiting: what the operator wants to find in the event again.
    """

    looks_again_after_s: Sequence[float] = ()

    def __init__(self, *, resource: str, waiting: dict[str, Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.resource = resource
        self.waiting = waiting or {}

    async def on_kill(self) -> None:
        """Cancel the job, if it is true that the task instance is not wanted any more."""
        # Airflow sends its cancellation again each second: what must be done to its end runs on its own.
        await asyncio.shield(_keep(self._cancel_if_killed()))

    async def _cancel(self, cluster: AsyncCluster, by: str) -> list[str]:
        """Cancel what there is; return the ids of the jobs that were."""
        raise NotImplementedError

    async def _cancel_if_killed(self) -> None:
        try:
            state = await task_state(self.task_instance)
        except Exception as error:
            self.log.error(
                "Airflow does not tell if this task instance is wanted: its job is left alone (%s)", error
            )
            return
        if state in GOES_ON:
            self.log.info("This task instance is %s, so it goes on elsewhere: its job is left alone", state)
            return
        async with cluster_watcher(self.resource) as watcher:
            for pause in (0.0, *self.looks_again_after_s):
                await asyncio.sleep(pause)
                await self._cancel_for_sure(watcher, f"Airflow: the task instance is {state or 'cleared'}")

    async def _cancel_for_sure(self, watcher: ClusterWatcher, by: str) -> None:
        try:
            cancelled = await self._insist(
                watcher, lambda cluster: self._cancel(cluster, by), seconds=CANCEL_SECONDS
            )
        except FractalAirflowError as error:
            self.log.error("%s. Cancel what is left on the cluster by hand (%s).", str(error).rstrip("."), by)
            return
        if cancelled is None:
            self.log.error("Gave up: cancel what is left on the cluster by hand (%s).", by)
        elif cancelled:
            self.log.info("Cancelled SLURM job %s (%s)", ", ".join(cancelled), by)

    async def _insist(
        self,
        watcher: ClusterWatcher,
        function: Callable[[AsyncCluster], Awaitable[T]],
        *,
        seconds: float = float("inf"),
    ) -> T | None:
        """
        Ask the cluster something until it answers.

        :param seconds: how long to insist; then the result is None.
        :raises FractalAirflowError: what the cluster says is wrong with the question.
        """
        end = time.monotonic() + seconds
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await watcher.call(function)
            except ConnectionError as error:
                pause = min(LONGEST_PAUSE_S, max(pause, getattr(error, "pause_s", 0.0)))
                if time.monotonic() + pause > end:
                    self.log.error("%s", error)
                    return None
                self.log.warning("%s. Trying again in %.0f s.", error, pause)
            await asyncio.sleep(pause)
            pause *= 2


class SlurmJobTrigger(ClusterTrigger):
    """
    Wait for a job, and bring its results back.

    Its event is ``{"end", "submitted", "waiting", "collected"?}``: ``end`` is ``deadline``, or the verdict of
    the watch; results of more than 256 KiB stay on the cluster, and the operator reads them there.

    :param submitted: what submitting the batch came to.
    :param results_wait_s: how long to wait for results after the end of a job, on a slow shared folder.
    :param deadline: the POSIX time at which the job is cancelled.
    """

    def __init__(
        self,
        *,
        resource: str,
        submitted: dict[str, Any],
        results_wait_s: float = 60.0,
        deadline: float | None = None,
        waiting: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(resource=resource, waiting=waiting)
        self.submitted = submitted
        self.results_wait_s = results_wait_s
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        return f"{__name__}.{type(self).__name__}", {
            "resource": self.resource,
            "submitted": self.submitted,
            "results_wait_s": self.results_wait_s,
            "deadline": self.deadline,
            "waiting": self.waiting,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; log what changes; then send the one event."""
        warm_up(self.task_instance)
        async with cluster_watcher(self.resource) as watcher:
            end = await self._wait(watcher)
            if end == "deadline":
                self.log.error("The time of this task (execution_timeout) is over: cancelling its job")
                await self._cancel_for_sure(watcher, "Airflow: execution_timeout is over")
            collected = None if end == "unwatched" else await self._collect(watcher)
        yield TriggerEvent(self._event(end, collected))

    async def _wait(self, watcher: ClusterWatcher) -> str:
        from fractal_airflow.execution.slurm.watch import JobWatch

        submitted = submitted_of(self.submitted)
        watch = JobWatch.of(submitted, self.results_wait_s, time.monotonic())
        left = submitted.count - submitted.done
        with watcher.watch(watch.job_id, submitted.folder, submitted.offset, left) as updates:
            while watch.verdict is None:
                update = await self._next(updates)
                if update is None:
                    return "deadline"
                for line in _lines(watch, update):
                    self.log.info("%s", line)
        return watch.verdict

    async def _next(self, updates: asyncio.Queue[JobStatus | Exception]) -> JobStatus | Exception | None:
        """Return the next update; None if the deadline comes first."""
        left = None if self.deadline is None else self.deadline - time.time()
        with suppress(TimeoutError):
            return await asyncio.wait_for(updates.get(), left)
        return None

    async def _collect(self, watcher: ClusterWatcher) -> Collected | None:
        submitted = self.submitted
        left = float("inf") if self.deadline is None else self.deadline - time.time()
        try:
            return await self._insist(
                watcher,
                lambda cluster: cluster.collect(
                    submitted["folder"],
                    submitted["count"],
                    submitted["job"]["id"],
                    most_bytes=EVENT_LIMIT_BYTES,
                ),
                seconds=max(LEAST_COLLECT_SECONDS, left),
            )
        except FractalAirflowError as error:
            # The operator asks again, and fails with this if it stays so.
            self.log.error("The results cannot be read: %s", error)
            return None

    def _event(self, end: str, collected: Collected | None) -> dict[str, Any]:
        event = {"end": end, "submitted": self.submitted, "waiting": self.waiting}
        if collected is None or collected.too_large:
            return event
        told = asdict(collected)
        # An event that Airflow's database refuses ends the triggerer, and each that comes after it.
        return event if has_nul(told) else {**event, "collected": told}

    async def _cancel(self, cluster: AsyncCluster, by: str) -> list[str]:
        # By its id alone: a job of a later try has the same name.
        job, folder = self.submitted["job"], self.submitted["folder"]
        return await cluster.cancel([{"id": job["id"], "folder": folder}], by=by)


class SlurmPauseTrigger(ClusterTrigger):
    """
    Wait until the cluster may be asked again: it took no job, or did not answer.

    :param folder: the batch's folder: what was accepted all the same is found there, if nobody wants it.
    :param generation: whose jobs these are: others there belong to a task instance that was cleared since.
    :param until: the POSIX time of the next try.
    :param event: what its event brings; ``waiting`` is added.
    """

    # A controller that did not answer may turn to what it was sent long after it answers again.
    looks_again_after_s = (2.0, 5.0, 10.0, 20.0, 40.0)

    def __init__(
        self,
        *,
        resource: str,
        folder: str,
        generation: str,
        until: float,
        waiting: dict[str, Any] | None = None,
        event: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(resource=resource, waiting=waiting)
        self.folder = folder
        self.generation = generation
        self.until = until
        self.event = event or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        return f"{__name__}.{type(self).__name__}", {
            "resource": self.resource,
            "folder": self.folder,
            "generation": self.generation,
            "until": self.until,
            "waiting": self.waiting,
            "event": self.event,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then send the one event."""
        warm_up(self.task_instance)
        await asyncio.sleep(max(0.0, self.until - time.time()))
        yield TriggerEvent({**self.event, "waiting": self.waiting})

    async def _cancel(self, cluster: AsyncCluster, by: str) -> list[str]:
        return await cluster.cancel([{"folder": self.folder, "generation": self.generation}], by=by)


def submitted_of(data: Mapping[str, Any]) -> Submitted:
    """Return what submitting a batch came to, from the JSON that a trigger keeps of it."""
    from fractal_airflow.execution.slurm.messages import JobRef, Submitted

    return Submitted(**{**data, "job": JobRef(**data["job"])})


def _lines(watch: JobWatch, update: JobStatus | Exception) -> list[str]:
    now = time.monotonic()
    return watch.not_ready(update, now) if isinstance(update, Exception) else watch.take(update, now)


def _keep(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a coroutine as a task to which a reference is kept until it is done."""
    task = asyncio.get_running_loop().create_task(work)
    _KEPT.add(task)
    task.add_done_callback(_KEPT.discard)
    return task


_KEPT: set[asyncio.Task[None]] = set()
