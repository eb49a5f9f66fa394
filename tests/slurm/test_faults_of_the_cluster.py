"""A cluster fails in parts, while jobs are submitted and run: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.services.site import Site
from tests.services.trial import Trial

# What happens does not depend on it: FRACTAL_TESTS_OUTAGE_S=60 tries it longer.
OUTAGE_S = float(os.environ.get("FRACTAL_TESTS_OUTAGE_S", 12))


def fill_the_cluster(site: Site) -> list[int]:
    """Submit jobs of somebody else that take all nodes, and go before those of the partition main."""
    options = ["--partition=urgent", "--exclusive", "--parsable"]
    script = "#!/bin/sh\nsleep 600"
    return [int(site.cluster.command("sbatch", *options, stdin=script)) for _ in site.cluster.nodes]


def test_sshd_is_down_while_jobs_run(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()

    site.login_node.stop()
    trial.go_on.touch()
    time.sleep(OUTAGE_S)
    site.login_node.start()

    trial.finish()
    trial.check(undisturbed)
    assert "No answer from the cluster" in trial.log()
    assert "The cluster answers again" in trial.log()


def test_sshd_is_down_when_jobs_are_to_be_submitted(site: Site, trial: Trial, undisturbed: Any) -> None:
    site.login_node.stop()
    trial.start(wait=False)
    trial.wait("both wait without a worker", lambda: trial.states() == ["deferred", "deferred"])
    time.sleep(OUTAGE_S)
    site.login_node.start()

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


def test_a_connection_is_cut_in_the_middle_of_a_submission(
    site: Site, trial: Trial, undisturbed: Any
) -> None:
    with site.login_node.held_sbatch("before") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        site.login_node.drop_connections()
        trial.wait("both notice", lambda: trial.states() == ["deferred", "deferred"])

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


def test_slurmctld_is_down_while_jobs_run(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()

    site.cluster.stop_controller()
    trial.go_on.touch()
    time.sleep(OUTAGE_S)
    site.cluster.start_controller()

    trial.finish()
    trial.check(undisturbed)


def test_slurmctld_is_down_when_jobs_are_to_be_submitted(site: Site, trial: Trial, undisturbed: Any) -> None:
    site.cluster.stop_controller()
    trial.start(wait=False)
    trial.wait("both wait without a worker", lambda: trial.states() == ["deferred", "deferred"])
    time.sleep(OUTAGE_S)
    site.cluster.start_controller()

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


def test_slurmctld_takes_a_job_but_its_answer_times_out(site: Site, trial: Trial, undisturbed: Any) -> None:
    with site.login_node.held_sbatch("before") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        site.cluster.controller.freeze()
    trial.wait("both wait without a worker", lambda: trial.states() == ["deferred", "deferred"])
    assert "Socket timed out" in trial.log()
    site.cluster.controller.thaw()

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


def test_a_node_dies_and_slurm_requeues_its_job(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()
    job = trial.running()[0]

    site.cluster.kill_node(job.nodes)
    trial.wait("the job has left", lambda: job not in trial.running())
    trial.wait("the job runs elsewhere", lambda: len(trial.running()) == 2)

    trial.finish()
    trial.check(undisturbed)
    assert "requeued" in trial.log()


def test_a_node_dies_with_a_job_that_is_not_requeued(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start(meta={"extra_lines": ["#SBATCH --no-requeue"]})
    job = trial.running()[0]

    site.cluster.kill_node(job.nodes)
    trial.wait("SLURM gives it up", lambda: job not in trial.live() and job not in trial.running())
    trial.wait("there is a new one", lambda: len(trial.running()) == 2)

    trial.finish()
    trial.check(undisturbed, submissions=[1, 2])
    assert "NODE_FAIL" in trial.log()


def test_a_job_is_cancelled_by_hand(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()

    site.cluster.cancel(trial.running()[0].id)
    trial.wait("there is a new one", lambda: len(trial.submissions()) == 2 and max(trial.submissions()) == 2)

    trial.finish()
    trial.check(undisturbed, submissions=[1, 2])
    assert "cancelled" in trial.log().lower()


def test_jobs_are_preempted_and_slurm_requeues_them(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()
    urgent = fill_the_cluster(site)
    trial.wait("they are pushed out", lambda: not trial.running())

    site.cluster.cancel(*urgent)
    trial.wait("they run again", lambda: len(trial.running()) == 2)

    trial.finish()
    trial.check(undisturbed)


def test_jobs_are_preempted_for_good(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start(meta={"extra_lines": ["#SBATCH --no-requeue"]})
    urgent = fill_the_cluster(site)
    trial.wait("there are new ones", lambda: trial.submissions() == [2, 2])

    site.cluster.cancel(*urgent)
    trial.wait("they run", lambda: len(trial.running()) == 2)

    trial.finish()
    trial.check(undisturbed, submissions=[2, 2])
    assert "PreemptedError" in trial.log()


def test_a_unit_is_killed_for_memory(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start(wait=False, args={"memory_mb": 500, "memory_for": ["B/03/0"]})
    trial.wait("its job is tried again with more", lambda: max(trial.submissions(), default=0) == 2)

    trial.finish()
    trial.check(undisturbed, submissions=[1, 2])
    assert "OutOfMemoryError" in trial.log()


def test_a_job_runs_past_its_time_limit(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start(meta={"time": "00:01:00"})
    trial.wait("both are tried again with more time", lambda: trial.submissions() == [2, 2], timeout_s=150)

    trial.finish()
    trial.check(undisturbed, submissions=[2, 2])
    assert "TimeLimitError" in trial.log()
