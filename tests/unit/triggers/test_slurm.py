from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.execution.slurm import watch
from fractal_airflow.execution.slurm.messages import Submitted, read_collected
from fractal_airflow.triggers import pace, slurm, watcher
from fractal_airflow.triggers.slurm import SlurmJobTrigger, SlurmPauseTrigger, submitted_of
from fractal_airflow.triggers.watcher import cluster_watcher
from tests.unit.triggers.clusters import ENDED, RUNNING, WAITING, FakeCluster

SUBMITTED: dict[str, Any] = {
    "folder": "/runs/d/r/00_Measure/0000-abc/1",
    "count": 1,
    "job": {"id": "7", "name": "B-03-0", "adopted": False},
    "done": 0,
    "offset": 0,
}
INSTANCE = SimpleNamespace(dag_id="d", run_id="r", task_id="0_measure.run", map_index=2)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The cluster of every resource; all times are short."""
    cluster = FakeCluster()

    @asynccontextmanager
    async def fake_watcher(resource: str) -> AsyncIterator[watcher.ClusterWatcher]:
        async with cluster_watcher(resource, cluster.link) as its_watcher:
            yield its_watcher

    monkeypatch.setattr(slurm, "cluster_watcher", fake_watcher)
    monkeypatch.setattr(slurm, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(pace, "NEWS_PAUSE_S", 0.01)
    monkeypatch.setattr(pace, "LONGEST_FAILURE_PAUSE_S", 0.02)
    return cluster


@pytest.fixture
def task_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Say what state Airflow tells of the task instance, or with which error it fails to."""

    def tell(state: object) -> None:
        async def state_of(task_instance: Any) -> object:
            if isinstance(state, Exception):
                raise state
            return state

        monkeypatch.setattr(slurm, "task_state", state_of)

    return tell


def job_trigger(**options: Any) -> SlurmJobTrigger:
    return SlurmJobTrigger(
        **{"resource": "hpc", "submitted": SUBMITTED, "waiting": {"pause_s": 5.0}, **options}
    )


def event_of(trigger: SlurmJobTrigger | SlurmPauseTrigger) -> dict[str, Any]:
    """Run a trigger to its end; return the only event that it sent."""

    async def run() -> list[TriggerEvent]:
        async with asyncio.timeout(5):
            return [event async for event in trigger.run()]

    (event,) = asyncio.run(run())
    payload: dict[str, Any] = event.payload
    return payload


def kill(trigger: SlurmJobTrigger | SlurmPauseTrigger, *, again_after_s: float | None = None) -> None:
    """Stop a trigger as Airflow does, which cancels what ``on_kill`` does if that takes too long."""
    trigger.task_instance = INSTANCE  # type: ignore[assignment]

    async def scene() -> None:
        killing = asyncio.create_task(trigger.on_kill())
        if again_after_s is not None:
            await asyncio.sleep(again_after_s)
            killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await asyncio.sleep(0.3)

    asyncio.run(scene())


class TestWaiting:
    """The trigger of a job."""

    def test_its_event_brings_the_results(self, cluster: FakeCluster) -> None:
        cluster.states["7"] = ENDED

        event = event_of(job_trigger())

        assert event["end"] == "ended"
        assert read_collected(event["collected"]).results == cluster.results
        assert read_collected(event["collected"]).taken
        assert submitted_of(event["submitted"]).job == submitted_of(SUBMITTED).job
        assert event["waiting"] == {"pause_s": 5.0}

    def test_results_that_are_large_stay_on_the_cluster(self, cluster: FakeCluster) -> None:
        cluster.states["7"] = ENDED
        cluster.results = [{"index": 0, "status": "done", "output": "x" * 300_000}]

        event = event_of(job_trigger())

        assert event["end"] == "ended"
        assert "collected" not in event

    def test_results_that_no_database_takes_do_not_go_through_it(self, cluster: FakeCluster) -> None:
        cluster.states["7"] = ENDED
        cluster.results = [{"index": 0, "status": "failed", "error": "at byte \0"}]

        event = event_of(job_trigger())

        assert event["end"] == "ended"
        assert "collected" not in event

    def test_it_survives_being_moved_to_another_triggerer(self) -> None:
        trigger = job_trigger(deadline=12.5, results_wait_s=3.0)

        path, kwargs = trigger.serialize()

        assert path == "fractal_airflow.triggers.slurm.SlurmJobTrigger"
        assert SlurmJobTrigger(**kwargs).serialize() == (path, kwargs)

    def test_the_log_says_what_becomes_of_the_job(
        self, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        states = iter([WAITING, WAITING, RUNNING, ENDED])

        async def poll(items: Any) -> dict[str, Any]:
            return {"7": next(states)}

        cluster.poll = poll  # type: ignore[method-assign]
        event_of(job_trigger())

        waits, runs, ended = [line for line in capsys.readouterr().out.splitlines() if "Job 7" in line]
        assert "resources" in waits
        assert "Job 7 runs on n1" in runs
        assert "Job 7 ended: COMPLETED" in ended

    def test_an_outage_is_waited_out(self, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
        cluster.states["7"] = ENDED
        cluster.failures = [ClusterUnreachableError("no route to host")] * 2

        assert event_of(job_trigger())["end"] == "ended"

        said = capsys.readouterr().out
        assert said.count("job 7 is left as it is. no route to host") == 1
        assert said.count("The cluster answers again") == 1

    def test_an_outage_while_results_are_fetched_is_waited_out(self, cluster: FakeCluster) -> None:
        cluster.states["7"] = ENDED
        poll = cluster.poll

        async def poll_and_cut(items: Any) -> Any:
            answer = await poll(items)
            cluster.failures = [ClusterUnreachableError("cut", pause_s=0.01)]
            return answer

        cluster.poll = poll_and_cut  # type: ignore[method-assign]

        assert read_collected(event_of(job_trigger())["collected"]).results == cluster.results

    def test_results_that_cannot_be_read_are_left_to_the_operator(self, cluster: FakeCluster) -> None:
        cluster.states["7"] = ENDED
        cluster.collect = _raising(ResourceError("no such folder"))  # type: ignore[method-assign]

        event = event_of(job_trigger())

        assert event["end"] == "ended"
        assert "collected" not in event

    def test_at_the_deadline_the_job_is_cancelled_and_what_is_done_is_brought(
        self, cluster: FakeCluster
    ) -> None:
        event = event_of(job_trigger(deadline=time.time() + 0.1))

        assert event["end"] == "deadline"
        assert [job for job, _ in cluster.cancelled] == [{"id": "7", "folder": SUBMITTED["folder"]}]
        assert "execution_timeout" in cluster.cancelled[0][1]
        assert event["collected"]["results"] == cluster.results

    def test_at_the_deadline_a_triggerer_that_cannot_ask_leaves_the_rest_to_the_operator(
        self, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cluster.cancel = _raising(ResourceError("the key file is missing"))  # type: ignore[method-assign]
        cluster.collect = _raising(ResourceError("the key file is missing"))  # type: ignore[method-assign]

        event = event_of(job_trigger(deadline=time.time() + 0.1))

        assert event["end"] == "deadline"
        assert "collected" not in event
        assert (
            "the key file is missing. Cancel what is left on the cluster by hand" in capsys.readouterr().out
        )

    def test_a_triggerer_whose_settings_stay_wrong_hands_the_job_over(
        self, cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "WRONG_WAIT_S", 0.05)
        cluster.poll = _raising(ResourceError("the key file is missing"))  # type: ignore[method-assign]

        event = event_of(job_trigger())

        assert event["end"] == "unwatched"
        assert "collected" not in event
        assert cluster.collected == cluster.cancelled == []
        assert capsys.readouterr().out.count("No answer from the cluster; job 7 is left as it is") == 1

    def test_a_triggerer_that_stops_leaves_the_job_alone(self, cluster: FakeCluster) -> None:
        async def scene() -> None:
            running = asyncio.create_task(anext(aiter(job_trigger().run())))
            await asyncio.sleep(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(scene())
        assert cluster.polls
        assert cluster.cancelled == []


class TestPausing:
    """The trigger of a batch that could not be submitted yet."""

    def test_it_sends_its_event_when_it_is_time(self, cluster: FakeCluster) -> None:
        until = time.time() + 0.1

        event = event_of(
            SlurmPauseTrigger(
                resource="hpc", folder="/runs/b", generation="g", until=until, waiting={"pause_s": 5.0}
            )
        )

        assert event == {"waiting": {"pause_s": 5.0}}
        assert time.time() >= until
        assert cluster.links == 0

    def test_killed_it_cancels_what_was_accepted_all_the_same_also_what_turns_up_later(
        self,
        cluster: FakeCluster,
        task_is: Callable[[object], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        task_is("failed")
        monkeypatch.setattr(SlurmPauseTrigger, "looks_again_after_s", (0.01, 0.02))

        kill(SlurmPauseTrigger(resource="hpc", folder="/runs/b", generation="g", until=0))

        jobs_of_this_try = {"folder": "/runs/b", "generation": "g"}  # and not of one that was cleared since
        assert [job for job, _ in cluster.cancelled] == [jobs_of_this_try] * 3


class TestKilling:
    """A user does not want the task instance any more; or somebody only seems to."""

    @pytest.mark.parametrize("state", ["failed", "success", "skipped", None, "scheduled", "up_for_retry"])
    def test_the_job_is_cancelled(
        self, cluster: FakeCluster, task_is: Callable[[object], None], state: str | None
    ) -> None:
        task_is(state)

        kill(job_trigger())

        assert [job for job, _ in cluster.cancelled] == [{"id": "7", "folder": SUBMITTED["folder"]}]
        assert str(state or "cleared") in cluster.cancelled[0][1]

    @pytest.mark.parametrize("state", ["deferred", "running"])
    def test_a_task_instance_that_goes_on_elsewhere_keeps_its_job(
        self, cluster: FakeCluster, task_is: Callable[[object], None], state: str
    ) -> None:
        task_is(state)

        kill(job_trigger())

        assert cluster.cancelled == []

    def test_where_airflow_does_not_tell_the_job_is_left_alone(
        self, cluster: FakeCluster, task_is: Callable[[object], None]
    ) -> None:
        task_is(RuntimeError("the API server is gone"))

        kill(job_trigger())

        assert cluster.cancelled == []

    def test_being_told_again_does_not_stop_it(
        self, cluster: FakeCluster, task_is: Callable[[object], None]
    ) -> None:
        task_is("failed")
        cancel = cluster.cancel

        async def cancel_slowly(jobs: Any, *, by: str) -> list[str]:
            await asyncio.sleep(0.15)
            return await cancel(jobs, by=by)

        cluster.cancel = cancel_slowly  # type: ignore[method-assign]

        kill(job_trigger(), again_after_s=0.05)

        assert len(cluster.cancelled) == 1

    def test_a_cluster_that_does_not_answer_is_asked_again(
        self, cluster: FakeCluster, task_is: Callable[[object], None]
    ) -> None:
        task_is("failed")
        cluster.failures = [ClusterUnreachableError("cut")] * 2

        kill(job_trigger())

        assert len(cluster.cancelled) == 1


def test_a_submission_is_the_same_after_a_journey() -> None:
    assert submitted_of(SUBMITTED) == Submitted(
        SUBMITTED["folder"], 1, submitted_of(SUBMITTED).job, done=0, offset=0
    )


def _raising(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail
