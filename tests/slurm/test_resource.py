"""A SLURM resource without Airflow: batches through a real cluster, whatever befalls their jobs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import SubmissionError
from fractal_airflow.execution.resource import BatchCall, BatchEnd, make_resource
from fractal_airflow.execution.slurm.messages import PollItem
from fractal_airflow.execution.slurm.resource import SlurmResource
from tests.services.slurm import SlurmCluster
from tests.unit.execution.batches import UNIT_TASK, starts

LOG = logging.getLogger("batch")
EATER = "import sys, time\nkept = bytearray(600 * 1000 * 1000)\ntime.sleep(60)"


class Batch:
    """A batch on the cluster, run in a thread so that a test can do something to its job."""

    def __init__(self, cluster: SlurmCluster, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.cluster = cluster
        self.work_dir = folder / "work"
        self.folder = folder
        self.resource = self.new_resource()
        self._threads = threads

    def new_resource(self) -> SlurmResource:
        resource = make_resource(
            {
                "type": "slurm",
                "work_dir": str(self.work_dir),
                "poll_interval": 1,
                "results_wait": 10,
                "jobs_runner_config": {
                    "default_slurm_config": {"partition": "main", "mem": "200M"},
                    "batching_config": {"max_cpus_per_job": 1},
                },
            }
        )
        assert isinstance(resource, SlurmResource)
        return resource

    def call(self, *units: dict[str, Any], **more: Any) -> BatchCall:
        fields = {"command": UNIT_TASK, "generation": "first", "meta": {}, **more}
        folder = str(self.work_dir / "dag" / "run" / "01_step" / "0000-0123456789ab")
        return BatchCall(list(units), folder=folder, label="Step B/03", **fields)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def go_on(self) -> None:
        Path(self.path("go_on")).touch()

    def start(self, call: BatchCall) -> Future[BatchEnd]:
        return self._threads.submit(self.resource.run, call, log=LOG)

    @property
    def jobs(self) -> list[int]:
        return sorted(self.cluster.submitted(str(self.work_dir)))

    def running(self, job_id: int | None = None) -> int:
        """Wait until a job runs, and a unit of it was started; return its id."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [job.id for job in self.cluster.live(str(self.work_dir)) if job.state == "RUNNING"]
            return bool(found) and bool(self.cluster.processes(found[0]))

        self.cluster.wait("the job runs", look)
        self.cluster.wait("a unit was started", lambda: starts(Path(self.path("waiting"))))
        return found[0]

    def two_units(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A unit that is done soon, and one that waits until it may go on."""
        return (
            {"started": self.path("first"), "output": {"n": 1}},
            {"started": self.path("waiting"), "wait_for": self.path("go_on"), "output": {"n": 2}},
        )


@pytest.fixture
def batch(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    """A batch of the administrator's, who is also who runs the tests."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor(1) as threads:
        its = Batch(cluster, tmp_path, threads)
        yield its
        its.go_on()
        cluster.mend()
        cluster.cancel_all()


def kinds(end: BatchEnd) -> list[str]:
    return [outcome.error.kind if outcome.error else "" for outcome in end.outcomes]


def message(end: BatchEnd, index: int) -> str:
    error = end.outcomes[index].error
    assert error is not None
    return error.message


def test_a_batch_is_run_by_a_job(batch: Batch, caplog: pytest.LogCaptureFixture) -> None:
    batch.go_on()
    with caplog.at_level(logging.INFO):
        end = batch.start(batch.call(*batch.two_units())).result(60)

    assert [outcome.output for outcome in end.outcomes] == [{"n": 1}, {"n": 2}]
    assert end.usage is not None
    assert end.usage["requested"] == {"mem_mb": 200.0, "cpus": 1}
    assert 1 < end.usage["used"]["max_unit_rss_mb"] <= end.usage["used"]["job_max_rss_mb"] + 1 < 200
    log = end.outcomes[0].log
    run = "/".join(Path(log).relative_to(batch.resource.work_dir).parts[:2])
    assert batch.resource.read_text(run, log, 1000).startswith("=== ")
    text = caplog.text
    for words in ("Submitted job", "ended on n", "COMPLETED", "2/2 units", "requested 200 MB, used"):
        assert words in text
    assert len(batch.jobs) == 1


def test_a_batch_that_is_done_is_not_run_again_until_it_is_cleared(batch: Batch) -> None:
    batch.go_on()
    first = batch.start(batch.call(*batch.two_units())).result(60)
    again = batch.start(batch.call(*batch.two_units())).result(60)
    batch.resource.take(first.folder)
    cleared = batch.start(batch.call(*batch.two_units(), generation="second")).result(60)

    assert again.folder == first.folder
    assert cleared.folder != first.folder
    assert starts(Path(batch.path("first"))) == 2


def test_submitting_polling_and_collecting_are_steps_of_their_own(batch: Batch) -> None:
    submitted = batch.resource.submit(batch.call(*batch.two_units()), log=LOG)
    assert submitted.job is not None
    job_id = batch.running()
    item = PollItem(submitted.job.id, submitted.folder)
    status = batch.resource.cluster.poll([item, PollItem("999999", submitted.folder)])
    batch.go_on()
    batch.cluster.wait("the job has ended", lambda: not batch.cluster.live(str(batch.work_dir)))
    end = batch.resource.finish(submitted, log=LOG)

    assert submitted.job.id == str(job_id)
    assert (status[item.id].state, status[item.id].done) == ("RUNNING", 1)
    assert status["999999"].state is None
    assert kinds(end) == ["", ""]


def test_another_process_goes_on_with_the_job_of_one_that_was_killed(batch: Batch) -> None:
    killed = batch.new_resource().submit(batch.call(*batch.two_units()), log=LOG)
    batch.running()
    future = batch.start(batch.call(*batch.two_units()))
    time.sleep(1)
    batch.go_on()
    end = future.result(60)

    assert kinds(end) == ["", ""]
    assert killed.job is not None
    assert batch.jobs == [int(killed.job.id)]
    assert starts(Path(batch.path("waiting"))) == 1


def test_a_job_that_is_cancelled_by_hand_is_said_to_be(batch: Batch) -> None:
    future = batch.start(batch.call(*batch.two_units()))
    batch.cluster.cancel(batch.running())
    end = future.result(60)

    assert kinds(end) == ["", "cancelled"]
    assert "ended CANCELLED on n" in message(end, 1)
    assert "somebody cancelled it on the cluster" in message(end, 1)
    assert end.cancelled_by is None


def test_cancelling_a_batch_leaves_no_job_and_no_process(batch: Batch) -> None:
    future = batch.start(batch.call(*batch.two_units()))
    job_id = batch.running()
    batch.resource.cancel()
    end = future.result(60)

    assert kinds(end) == ["", "cancelled"]
    assert "cancelled by Airflow" in message(end, 1)
    batch.cluster.wait("nothing is left", lambda: not batch.cluster.processes(job_id), timeout_s=15)


def test_a_job_that_is_requeued_goes_on_where_it_was(batch: Batch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        future = batch.start(batch.call(*batch.two_units()))
        job_id = batch.running()
        batch.cluster.command("scontrol", "requeue", str(job_id))
        batch.cluster.wait("it runs again", lambda: starts(Path(batch.path("waiting"))) == 2)
        batch.go_on()
        end = future.result(60)

    assert kinds(end) == ["", ""]
    assert starts(Path(batch.path("first"))) == 1
    assert "was requeued by SLURM; units that are done are not run again" in caplog.text


def test_a_job_over_its_memory_fails_for_that(batch: Batch) -> None:
    call = batch.call({}, {}, command=(sys.executable, "-c", EATER))
    end = batch.start(call).result(90)
    more = batch.resource.with_more(call, [outcome.error.kind for outcome in end.outcomes if outcome.error])

    assert kinds(end)[0] == "memory"
    assert "used more memory than it had asked for" in message(end, 0) or "memory" in message(end, 0)
    assert more is not None
    assert batch.resource.request(more).mem_mb == 400


def test_a_job_over_its_time_fails_for_that(batch: Batch) -> None:
    future = batch.start(batch.call(*batch.two_units(), meta={"time": 1}))
    job_id = batch.running()
    # SLURM looks once in half a minute; its limits are minutes.
    batch.cluster.update(f"jobid={job_id}", "timelimit=00:00:01")
    end = future.result(120)

    assert kinds(end) == ["", "time"]
    assert "ended TIMEOUT on n" in message(end, 1)
    assert "it ran past its time limit" in message(end, 1)
    assert "DUE TO TIME LIMIT" in message(end, 1)


def test_a_job_whose_node_dies_is_requeued_by_slurm(batch: Batch) -> None:
    future = batch.start(batch.call(*batch.two_units()))
    job_id = batch.running()
    (node,) = [job.nodes for job in batch.cluster.live(str(batch.work_dir))]
    batch.cluster.kill_node(node)
    batch.cluster.wait("it runs again", lambda: starts(Path(batch.path("waiting"))) == 2, timeout_s=120)
    batch.go_on()
    end = future.result(60)

    assert kinds(end) == ["", ""]
    assert starts(Path(batch.path("first"))) == 1
    assert batch.jobs == [job_id]


def test_a_job_that_may_not_be_requeued_fails_with_its_node(batch: Batch) -> None:
    future = batch.start(batch.call(*batch.two_units(), meta={"extra_lines": ["#SBATCH --no-requeue"]}))
    batch.running()
    (node,) = [job.nodes for job in batch.cluster.live(str(batch.work_dir))]
    batch.cluster.kill_node(node)
    end = future.result(120)

    assert kinds(end) == ["", "node"]
    assert "its machine failed" in message(end, 1)
    assert end.outcomes[1].host == node


def test_a_controller_that_is_down_ends_nothing(batch: Batch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        future = batch.start(batch.call(*batch.two_units()))
        batch.running()
        batch.cluster.stop_controller()
        batch.go_on()
        time.sleep(8)
        waited = not future.done()
        batch.cluster.start_controller()
        end = future.result(90)

    assert waited
    assert kinds(end) == ["", ""]
    assert "No answer from the cluster" in caplog.text
    assert "The cluster answers again" in caplog.text
    assert len(batch.jobs) == 1


@pytest.mark.parametrize(
    ("meta", "account", "words"),
    [
        ({"nodelist": "n17"}, None, "Invalid node name specified.*option that caused it: nodelist"),
        ({"extra_lines": ["#SBATCH --partition=nope"]}, None, "nope.*option that caused it: partition"),
        ({"mem": "900G"}, None, "Memory.*option that caused it: mem"),
    ],
)
def test_a_refusal_has_slurms_own_words_and_the_option(
    batch: Batch, meta: dict[str, Any], account: str | None, words: str
) -> None:
    with pytest.raises(SubmissionError, match=f"(?s){words}"):
        batch.start(batch.call({}, meta=meta, account=account)).result(60)
    assert batch.cluster.live(str(batch.work_dir)) == []


def test_paths_and_arguments_with_anything_in_them_simply_work(batch: Batch, tmp_path: Path) -> None:
    folder = """it's "a" $(touch oops) `x` ; & ä"""
    said = f"{folder} \\n %j \n two lines"
    batch.work_dir = tmp_path / folder / "work"
    batch.resource = batch.new_resource()
    end = batch.start(batch.call({"say": said, "output": {"said": said}})).result(60)

    assert end.outcomes[0].output == {"said": said}
    assert said in Path(end.outcomes[0].log).read_text()
