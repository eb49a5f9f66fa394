"""The cluster program, as the user on the login node runs it, against a real SLURM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.execution.archive import runner_archive, runner_name
from fractal_airflow.execution.slurm.script import render_script
from tests.services.daemons import kill_all
from tests.services.login_node import LoginNode, running_login_node
from tests.services.site import PYTHON, fake_tasks
from tests.services.slurm import SlurmCluster, SlurmTimes, running_slurm


class Batch:
    """A batch of `measure` on images of its own, and the calls of the program that are about it."""

    def __init__(self, cluster: SlurmCluster, login_node: LoginNode, folder: Path) -> None:
        self.cluster = cluster
        self.login_node = login_node
        self.folder = folder
        self.program = cluster.shared / runner_name()
        self.go_on = folder / "go_on"
        if not self.program.exists():
            self.program.write_bytes(runner_archive())
        self.urls = [str(folder / "images" / well) for well in ("B03", "B04")]
        for url in self.urls:
            Path(url).mkdir(parents=True)
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, cluster.user.pw_name)

    def start(self, request: dict[str, Any]) -> subprocess.Popen[str]:
        environment = {"HOME": str(self.folder), **self.login_node.environment}
        process = subprocess.Popen(
            [PYTHON, str(self.program), "cluster"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=self.cluster.user.pw_name,
            group=self.cluster.user.pw_name,
            extra_groups=[],
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        process.stdin = None
        return process

    def call(self, do: str, **request: Any) -> dict[str, Any]:
        return reply_of(self.start({"do": do, **request}))

    def submission(self, *, generation: str = "g1", mem: int = 200, **more: Any) -> dict[str, Any]:
        """A request to submit; the images wait in the middle until the test lets them go on."""
        program = str(self.program)
        script = render_script(
            python=PYTHON, program=program, mem_mb=mem, extra_lines=more.pop("extra_lines", ())
        )
        args = {"seconds": 100, "seconds_until": str(self.go_on), **more.pop("args", {})}
        command = [PYTHON, str(fake_tasks(self.cluster) / "measure.py")]
        batch = {"version": 1, "command": command, "count": 2, "parallel": 1, "warm_start": True, "gpus": 0}
        return {
            "do": "submit",
            "batch_folder": str(self.folder / "batch"),
            "generation": generation,
            "batch": batch,
            "units": [{"zarr_url": url, **args} for url in self.urls],
            "script": script,
            "name_prefix": "measure",
            **more,
        }

    def submit(self, **more: Any) -> dict[str, Any]:
        return reply_of(self.start(self.submission(**more)))

    def poll(self, job_id: str, offset: int = 0) -> dict[str, Any]:
        jobs = [{"id": job_id, "folder": str(self.attempt), "offset": offset}]
        return dict(self.call("poll", jobs=jobs)["jobs"][job_id])

    def collect(self, job_id: str) -> dict[str, Any]:
        return self.call("collect", folder=str(self.attempt), count=2, job_id=job_id, take=False)

    @property
    def attempt(self) -> Path:
        return max((self.folder / "batch").glob("[0-9]*"), key=lambda path: int(path.name))

    def runs(self) -> list[int]:
        """How often each image was measured."""
        notes = [Path(url, "runs.txt") for url in self.urls]
        return [len(note.read_text().splitlines()) if note.exists() else 0 for note in notes]

    def jobs(self) -> list[int]:
        """All jobs that SLURM ever took for it."""
        return sorted(self.cluster.submitted(f"{self.folder}/"))

    def wait_for_runs(self, runs: list[int]) -> None:
        self.cluster.wait(f"the images were measured {runs} times", lambda: self.runs() == runs)

    def wait_until_forgotten(self) -> None:
        self.cluster.wait("SLURM has forgotten the job", lambda: not self.cluster.queue(), timeout_s=100)

    def wait_for_state(self, job_id: str, *states: str) -> None:
        def state() -> str:
            return next((job.state for job in self.cluster.queue() if job.id == int(job_id)), "")

        self.cluster.wait(f"job {job_id} is {states}", lambda: state() in states)


def reply_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=90)
    reply = json.loads(out)
    return dict(reply.get("ok", reply))


@pytest.fixture
def batch(cluster: SlurmCluster, login_node: LoginNode, request: pytest.FixtureRequest) -> Iterator[Batch]:
    name = request.node.name
    yield Batch(cluster, login_node, cluster.shared / "program" / name)
    login_node.release()
    cluster.mend()
    cluster.cancel_all()


def test_a_job_is_submitted_watched_and_collected(batch: Batch) -> None:
    submitted = batch.submit()
    job_id = submitted["job"]["id"]
    assert not submitted["job"]["adopted"]

    batch.cluster.wait("the first image is measured", lambda: batch.runs()[0] == 1)
    polled = batch.poll(job_id)
    assert (polled["state"], polled["source"], polled["nodes"]) == ("RUNNING", "squeue", "n1")
    batch.go_on.touch()
    batch.wait_for_state(job_id, "COMPLETED")
    polled = batch.poll(job_id)
    assert (polled["done"], polled["failed"], polled["exit"]) == (2, 0, 0)

    collected = batch.collect(job_id)
    assert [line["status"] for line in collected["results"]] == ["done", "done"]
    assert collected["job"]["state"] == "COMPLETED"
    assert collected["job"]["requested_mem_mb"] == 200
    assert batch.submit()["complete"]
    assert batch.jobs() == [int(job_id)]


def test_five_submissions_at_once_make_one_job(batch: Batch) -> None:
    processes = [batch.start(batch.submission()) for _ in range(5)]
    replies = [reply_of(process) for process in processes]

    assert len({reply["job"]["id"] for reply in replies}) == 1
    assert sorted(reply["job"]["adopted"] for reply in replies) == [False, True, True, True, True]
    assert len(batch.jobs()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_program_that_is_killed_while_sbatch_is_at_work_leaves_one_job(batch: Batch, when: str) -> None:
    with batch.login_node.held_sbatch(when) as reached:
        process = batch.start(batch.submission())
        batch.cluster.wait("sbatch is at work", reached)
        kill_all([process.pid])
        again = batch.start(batch.submission())
        time.sleep(1)

    reply = reply_of(again)
    process.communicate()
    assert reply["job"]["adopted"]
    assert batch.jobs() == [int(reply["job"]["id"])]


def test_a_submission_that_times_out_but_was_accepted_is_adopted(batch: Batch) -> None:
    with batch.login_node.held_sbatch("before") as reached:
        process = batch.start(batch.submission())
        batch.cluster.wait("sbatch comes", reached)
        batch.cluster.controller.freeze()
    refused = reply_of(process)
    while_it_is_frozen = batch.submit()
    batch.cluster.controller.thaw()

    assert refused["error"]["kind"] == "controller"
    assert refused["error"]["maybe_accepted"]
    assert "Socket timed out" in refused["error"]["message"]
    assert while_it_is_frozen["error"]["kind"] == "controller"
    batch.cluster.wait("the job turns up", batch.jobs)
    reply = batch.submit()
    assert reply["job"]["adopted"]
    assert batch.jobs() == [int(reply["job"]["id"])]


def test_a_job_of_an_earlier_generation_is_cancelled_first(batch: Batch) -> None:
    first = batch.submit(generation="g1")["job"]["id"]
    batch.cluster.wait("the first image is measured", lambda: batch.runs()[0] == 1)

    second = batch.submit(generation="g2")["job"]["id"]

    assert second != first
    assert [job.id for job in batch.cluster.live(f"{batch.folder}/")] == [int(second)]
    assert "cleared" in batch.collect(first)["cancelled_by"]


def test_a_requeued_job_goes_on_where_it_was(batch: Batch) -> None:
    half_way = batch.folder / "half_way"
    submission = batch.submission(args={"seconds_until": str(half_way)})
    submission["units"][1]["seconds_until"] = str(batch.go_on)
    job_id = reply_of(batch.start(submission))["job"]["id"]
    half_way.touch()
    batch.cluster.wait("the second image is being measured", lambda: batch.runs() == [1, 1])
    node = next(job.nodes for job in batch.cluster.queue() if job.id == int(job_id))

    batch.cluster.kill_node(node)
    batch.cluster.wait("it runs elsewhere", lambda: batch.runs() == [1, 2])
    batch.go_on.touch()
    batch.wait_for_state(job_id, "COMPLETED")

    collected = batch.collect(job_id)
    assert [line["status"] for line in collected["results"]] == ["done", "done"]
    assert collected["job"]["restarts"] == 1
    assert batch.runs() == [1, 2]
    assert batch.poll(job_id)["exit"] == 0


def test_a_job_without_requeue_ends_with_its_node(batch: Batch) -> None:
    job_id = batch.submit(extra_lines=["#SBATCH --no-requeue"])["job"]["id"]
    batch.cluster.wait("it runs", lambda: batch.runs() == [1, 0])
    node = next(job.nodes for job in batch.cluster.queue() if job.id == int(job_id))

    batch.cluster.kill_node(node)
    batch.wait_for_state(job_id, "NODE_FAIL")

    collected = batch.collect(job_id)
    assert collected["job"]["state"] == "NODE_FAIL"
    assert collected["exit"] is None
    assert batch.submit()["job"]["id"] != job_id


def test_cancelling_ends_the_job_and_says_who_did_it(batch: Batch) -> None:
    job_id = batch.submit()["job"]["id"]
    batch.cluster.wait("it runs", lambda: batch.runs() == [1, 0])

    reply = batch.call("cancel", jobs=[{"id": job_id, "folder": str(batch.attempt)}], by="somebody")

    assert reply == {"cancelled": [job_id]}
    batch.wait_for_state(job_id, "CANCELLED")
    assert batch.collect(job_id)["cancelled_by"] == "somebody"
    assert not batch.cluster.processes(int(job_id))


def test_refusals_name_the_option(batch: Batch) -> None:
    for line, option in {
        "#SBATCH --partition=nowhere": "partition",
        "#SBATCH --nodelist=n9": "nodelist",
        "#SBATCH --mem=900G": "mem",
    }.items():
        reply = batch.submit(extra_lines=[line])
        assert "error" in reply, (line, reply)
        assert (reply["error"]["kind"], reply["error"].get("option")) == ("refused", option), reply
    assert batch.cluster.live(f"{batch.folder}/") == []


def test_a_work_folder_that_cannot_be_written_is_named(batch: Batch) -> None:
    os.chown(batch.folder, 0, 0)

    error = batch.submit()["error"]

    assert error["kind"] == "folder"
    assert str(batch.folder / "batch") in error["message"]


def test_jobs_that_slurm_has_forgotten_are_known_from_their_results_or_from_sacct() -> None:
    times = SlurmTimes(min_job_age_s=2)  # the controller looks once a minute for what to forget
    with ExitStack() as stack:
        batches = {}
        for accounting in (False, True):
            cluster = stack.enter_context(running_slurm(times=times, accounting=accounting))
            node = stack.enter_context(running_login_node(cluster))
            batches[accounting] = Batch(cluster, node, cluster.shared / "forgotten")
            batches[accounting].go_on.touch()
        jobs = {accounting: batch.submit()["job"]["id"] for accounting, batch in batches.items()}
        for accounting, batch in batches.items():
            batch.wait_for_runs([1, 1])
            batch.wait_until_forgotten()

            polled = batch.poll(jobs[accounting])
            collected = batch.collect(jobs[accounting])
            again = batch.submit()

            told = ("COMPLETED", "sacct") if accounting else (None, None)
            assert (polled["state"], polled["source"]) == told
            assert (polled["exit"], polled["done"]) == (0, 2)
            assert [line["status"] for line in collected["results"]] == ["done", "done"]
            assert again["complete"]
            assert len(batch.jobs()) == 1
