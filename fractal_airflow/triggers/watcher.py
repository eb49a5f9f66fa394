"""One eye on a cluster for all triggers of an event loop: one connection, and one poll for all their jobs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from fractal_airflow.exceptions import ClusterNotReadyError
from fractal_airflow.triggers.pace import Pace

if TYPE_CHECKING:
    from fractal_airflow.execution.slurm.cluster import AsyncCluster
    from fractal_airflow.execution.slurm.messages import JobStatus

T = TypeVar("T")

LINGER_S = 60.0
"""A connection that nobody uses is kept so long: for the next step's jobs, and for cancelling."""

DEFAULT_INTERVAL_S = 10.0
CALLS_AT_ONCE = 4  # sshd takes ten sessions of a connection, unless it is told otherwise
MOST_FAILURES_OF_A_LINK = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """A cluster that can be asked, and how often."""

    cluster: AsyncCluster
    interval_s: float


@dataclass(eq=False)
class WatchedJob:
    """
    A job that a trigger watches, with what the polls say of it.

    :param left: how many units have no result yet.
    """

    job_id: str
    folder: str
    offset: int = 0
    left: int = 0
    state: str | None = None
    polled_at: float | None = None
    updates: asyncio.Queue[JobStatus | Exception] = field(default_factory=asyncio.Queue)

    def take(self, status: JobStatus, now: float) -> float | None:
        """Take what a poll says; return in how many seconds the last unit should end, where that shows."""
        ended, polled_at = status.done + status.failed, self.polled_at
        self.state, self.offset, self.polled_at = status.state, status.offset, now
        self.left = max(0, self.left - ended)
        self.updates.put_nowait(status)
        return None if polled_at is None or not ended else self.left * (now - polled_at) / ended


class ClusterWatcher:
    """
    Asks one cluster about all jobs that are watched, at one time.

    Get it from :func:`cluster_watcher`, inside the event loop that uses it.

    :param connect: makes the link to the cluster; called again after failures, since its configuration may
        have been mended.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]]) -> None:
        self._connect = connect
        self._link: Link | None = None
        self._failures = 0
        self._jobs: list[WatchedJob] = []
        self._users = 0
        self._changed = asyncio.Event()
        self._connecting = asyncio.Lock()
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self._pace = Pace(DEFAULT_INTERVAL_S, time.monotonic())

    @contextmanager
    def watch(
        self, job_id: str, folder: str, offset: int = 0, left: int = 0
    ) -> Iterator[asyncio.Queue[JobStatus | Exception]]:
        """
        Watch a job: the queue gets what each poll says of it, or why a poll had no answer.

        :param offset: how much of the job's results the trigger knows of already.
        :param left: how many units had no result there.
        """
        job = WatchedJob(job_id, folder, offset, left)
        if not self._jobs:
            self._pace = Pace(self._pace.interval_s, time.monotonic())
        self._jobs.append(job)
        self._pace.news(time.monotonic())
        self._changed.set()
        try:
            yield job.updates
        finally:
            self._jobs.remove(job)

    async def call(self, function: Callable[[AsyncCluster], Awaitable[T]]) -> T:
        """
        Ask the cluster something else, over the same connection.

        :raises ClusterNotReadyError: if it does not answer.
        """
        async with self._calls:
            return await function((await self._linked()).cluster)

    async def run(self, forget: Callable[[], object]) -> None:
        """
        Poll until nobody has used this for a while.

        :param forget: called as soon as that is so: who comes later needs another watcher.
        """
        try:
            while await self._wait_until_due():
                await self._poll()
        finally:
            forget()
            await self._unlink()

    @contextmanager
    def used(self) -> Iterator[ClusterWatcher]:
        """Keep the connection open as long as the block lasts, and a while longer."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            self._changed.set()

    async def _wait_until_due(self) -> bool:
        """Wait for the time of the next poll; False if nobody uses this any more."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            if self._jobs and self._pace.due <= now:
                return True
            pause = self._pace.due - now if self._jobs else LINGER_S
            idle = not self._users
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
                continue
            if idle and not self._users:
                return False

    async def _poll(self) -> None:
        from fractal_airflow.execution.slurm.messages import PollItem

        jobs = list(self._jobs)
        items = {job.job_id: PollItem(job.job_id, job.folder, job.offset) for job in jobs}
        try:
            statuses = await self.call(lambda cluster: cluster.poll(list(items.values())))
            answers = [(job, statuses[job.job_id]) for job in jobs]
        except Exception as error:  # whatever it is: a job that runs is not lost by looking later
            await self._failed(error, jobs)
            return
        self._failures = 0
        now = time.monotonic()
        news = any(status.state != job.state for job, status in answers)
        ends = [job.take(status, now) for job, status in answers]
        self._pace.polled(
            now, news=news, ends_in_s=min((each for each in ends if each is not None), default=None)
        )

    async def _failed(self, error: Exception, jobs: list[WatchedJob]) -> None:
        self._pace.failed(time.monotonic(), least_s=getattr(error, "pause_s", 0.0))
        self._failures += 1
        expected = isinstance(error, ClusterNotReadyError)
        logger.warning("A poll of %d jobs failed: %s", len(jobs), error, exc_info=None if expected else error)
        for job in jobs:
            job.updates.put_nowait(error)
        if self._failures % MOST_FAILURES_OF_A_LINK == 0 or not expected:
            await self._unlink()

    async def _linked(self) -> Link:
        async with self._connecting:
            if self._link is None:
                self._link = await self._connect()
                self._pace.interval_s = self._link.interval_s
            return self._link

    async def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with suppress(Exception):
                await link.cluster.close()


@asynccontextmanager
async def cluster_watcher(
    resource: str, connect: Callable[[], Awaitable[Link]] | None = None
) -> AsyncIterator[ClusterWatcher]:
    """
    Give this event loop's watcher of a resource's cluster.

    :param connect: makes the link, where it is not the resource's Airflow connection that tells how.
    """
    watchers = _WATCHERS.setdefault(asyncio.get_running_loop(), {})
    watcher = watchers.get(resource)
    if watcher is None:
        watcher = watchers[resource] = ClusterWatcher(connect or (lambda: link_to(resource)))
        # In a context of its own: in that of a trigger, its log lines would go to that trigger's task.
        poller = asyncio.create_task(
            watcher.run(forget=lambda: watchers.pop(resource)),
            name=f"watcher of {resource}",
            context=contextvars.Context(),
        )
        _POLLERS.add(poller)
        poller.add_done_callback(_POLLERS.discard)
    with watcher.used():
        yield watcher


_Watchers = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ClusterWatcher]]

_WATCHERS: _Watchers = weakref.WeakKeyDictionary()
_POLLERS: set[asyncio.Task[None]] = set()  # the event loop itself keeps only weak references


async def link_to(resource: str) -> Link:
    """
    Make the link to the cluster of a resource, as its Airflow connection says.

    :raises ClusterUnreachableError: if Airflow does not give that connection right now.
    :raises ResourceError: if it is wrong.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    from fractal_airflow.execution.slurm import ssh_errors
    from fractal_airflow.execution.slurm.cluster import AsyncCluster
    from fractal_airflow.execution.slurm.transport import make_async_transport
    from fractal_airflow.hooks.fractal import FractalHook

    try:
        config = await FractalHook(resource).aget_config()
    except (AirflowRuntimeError, OSError) as error:
        raise ssh_errors.unreadable_connection(resource, error) from error
    transport = make_async_transport(config)
    return Link(AsyncCluster(transport, str(config.work_dir), config.python), config.poll_interval)
