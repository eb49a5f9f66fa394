from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.execution.slurm.messages import JobStatus
from fractal_airflow.triggers import pace, watcher
from fractal_airflow.triggers.watcher import ClusterWatcher, WatchedJob, cluster_watcher
from tests.unit.triggers.clusters import ENDED, RUNNING, WAITING, FakeCluster

Story = Callable[[FakeCluster, ClusterWatcher], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LINGER_S", 0.1)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(pace, "NEWS_PAUSE_S", 0.01)
    monkeypatch.setattr(pace, "LONGEST_FAILURE_PAUSE_S", 0.02)


def play(story: Story, cluster: FakeCluster | None = None) -> FakeCluster:
    """Let a story happen with a watcher of its own, and let go of it."""
    cluster = cluster or FakeCluster()

    async def scene() -> None:
        async with cluster_watcher("hpc", cluster.link) as its_watcher:
            async with asyncio.timeout(5):
                await story(cluster, its_watcher)
        await asyncio.sleep(0.3)

    asyncio.run(scene())
    return cluster


def test_two_hundred_jobs_are_one_connection_and_one_poll_at_a_time() -> None:
    async def watch_many(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        async def watch(number: int) -> None:
            with its_watcher.watch(str(number), f"/runs/{number}") as updates:
                assert await updates.get() == RUNNING

        await asyncio.gather(*(watch(number) for number in range(200)))

    cluster = play(watch_many)
    assert cluster.links == 1
    assert len(cluster.polls[0]) == 200
    assert len(cluster.polls) == 1


def test_triggers_of_the_same_resource_share_a_watcher_and_others_do_not() -> None:
    async def scene() -> None:
        cluster = FakeCluster()
        async with (
            cluster_watcher("hpc", cluster.link) as one,
            cluster_watcher("hpc", cluster.link) as same,
            cluster_watcher("gpu", cluster.link) as other,
        ):
            assert one is same
            assert one is not other

    asyncio.run(scene())


def test_who_comes_later_is_told_by_the_next_poll() -> None:
    async def come_late(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/runs/1") as first:
            await first.get()
            with its_watcher.watch("2", "/runs/2") as second:
                await second.get()

    cluster = play(come_late)
    assert cluster.polls[0] == ["1"]
    assert ["1", "2"] in cluster.polls


def test_only_what_is_new_of_the_results_is_asked_for() -> None:
    offsets: list[int] = []

    class Growing(FakeCluster):
        async def poll(self, items: Any) -> dict[str, JobStatus]:
            offsets.extend(item.offset for item in items)
            return {item.id: JobStatus(state="RUNNING", offset=item.offset + 100) for item in items}

    async def see_progress(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/runs/1", offset=50) as updates:
            for _ in range(3):
                await updates.get()

    play(see_progress, Growing())
    assert offsets[:3] == [50, 150, 250]


def test_a_cluster_that_does_not_answer_is_told_to_all_and_asked_again() -> None:
    cluster = FakeCluster()
    cluster.failures = [ClusterUnreachableError("no route"), ClusterUnreachableError("no route")]

    async def wait_for_it(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/1") as one, its_watcher.watch("2", "/2") as two:
            for updates in (one, two):
                answers = [await updates.get() for _ in range(3)]
                assert [str(answer) for answer in answers[:2]] == ["no route", "no route"]
                assert answers[2] == RUNNING

    play(wait_for_it, cluster)


@pytest.mark.parametrize(
    "error", [ResourceError("wrong host key"), RuntimeError("a mistake of ours"), KeyError("1")]
)
def test_no_error_whatsoever_ends_the_watching(error: Exception) -> None:
    cluster = FakeCluster()
    cluster.failures = [error]

    async def wait_for_it(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/1") as updates:
            assert await updates.get() is error
            assert await updates.get() == RUNNING

    play(wait_for_it, cluster)
    assert cluster.links == 2  # the configuration may have been mended


def test_an_answer_without_one_of_the_jobs_is_no_answer() -> None:
    class Forgetful(FakeCluster):
        async def poll(self, items: Any) -> dict[str, JobStatus]:
            return {}

    async def ask(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/1") as updates:
            assert isinstance(await updates.get(), KeyError)

    play(ask, Forgetful())


def test_the_connection_outlives_its_users_a_while_and_is_then_closed() -> None:
    async def scene() -> FakeCluster:
        cluster = FakeCluster()
        for _ in range(2):
            async with cluster_watcher("hpc", cluster.link) as its_watcher:
                with its_watcher.watch("1", "/1") as updates:
                    await updates.get()
            assert cluster.closed == 0
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        return cluster

    cluster = asyncio.run(scene())
    assert (cluster.links, cluster.closed) == (1, 1)


def test_who_comes_after_that_gets_a_new_one() -> None:
    async def scene() -> FakeCluster:
        cluster = FakeCluster()
        for _ in range(2):
            async with cluster_watcher("hpc", cluster.link) as its_watcher:
                with its_watcher.watch("1", "/1") as updates:
                    await updates.get()
            await asyncio.sleep(0.3)
        return cluster

    cluster = asyncio.run(scene())
    assert (cluster.links, cluster.closed) == (2, 2)


def test_nothing_is_asked_while_nothing_is_watched() -> None:
    async def idle(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        await asyncio.sleep(0.2)

    assert play(idle).polls == []


def test_a_waiting_job_is_asked_about_once_in_an_interval() -> None:
    async def wait(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        cluster.states["1"] = WAITING
        with its_watcher.watch("1", "/1"):
            await asyncio.sleep(0.5)

    assert 10 <= len(play(wait).polls) <= 27  # an interval is 0.02 s


def test_the_poller_does_not_write_into_the_log_of_the_first_trigger() -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody")
    seen: list[str] = []

    class Listening(FakeCluster):
        async def poll(self, items: Any) -> dict[str, JobStatus]:
            seen.append(whose.get())
            return await super().poll(items)

    async def watch(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        with its_watcher.watch("1", "/1") as updates:
            await updates.get()

    async def scene() -> None:
        whose.set("the first task")
        cluster = Listening()
        async with cluster_watcher("hpc", cluster.link) as its_watcher:
            await watch(cluster, its_watcher)

    asyncio.run(scene())
    assert seen == ["nobody"]


def test_a_cancelled_trigger_takes_its_job_along_and_no_other() -> None:
    async def cancel_one(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        async def watch(job: str) -> None:
            with its_watcher.watch(job, f"/{job}") as updates:
                while await updates.get() != ENDED:
                    pass

        one, two = asyncio.create_task(watch("1")), asyncio.create_task(watch("2"))
        await asyncio.sleep(0.05)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        await asyncio.sleep(0.05)
        cluster.states["2"] = ENDED
        await two

    assert play(cancel_one).polls[-1] == ["2"]


def test_no_more_than_a_few_calls_are_made_at_a_time() -> None:
    most = now = 0

    async def call(cluster: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    async def collect_many(cluster: FakeCluster, its_watcher: ClusterWatcher) -> None:
        await asyncio.gather(*(its_watcher.call(call) for _ in range(50)))

    play(collect_many)
    assert most == watcher.CALLS_AT_ONCE


def test_the_end_of_a_job_is_foreseen_from_the_pace_of_its_units() -> None:
    job = WatchedJob("1", "/1", left=40)
    ten_more = JobStatus(state="RUNNING", done=9, failed=1)

    assert job.take(ten_more, now=100.0) is None  # since when they run is not known yet
    assert job.take(ten_more, now=105.0) == 10.0
    assert job.take(RUNNING, now=110.0) is None
    assert job.take(ten_more, now=115.0) == 5.0
    assert job.take(ten_more, now=120.0) == 0.0
