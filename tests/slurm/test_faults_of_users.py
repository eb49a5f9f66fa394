"""A user changes their mind while jobs run: no job is left in the queue that nobody wants."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.services.site import Site
from tests.services.trial import STEP, Trial

GONE_S = 15.0


@pytest.fixture(scope="module", autouse=True)
def first_killing(shared_site: Site) -> None:
    """A triggerer asks Airflow for the first time when something is killed: that takes seconds of its own."""
    trial = Trial(shared_site, "first_killing").start()
    shared_site.airflow.fail_run(trial.name, trial.run_id)
    trial.wait("all jobs are gone", lambda: not trial.live())


def job_of(trial: Trial, batch: int) -> int:
    """The running job of a batch."""
    (job,) = [job.id for job in trial.running() if f"/{batch:04}-" in job.folder]
    return job


def is_gone(trial: Trial, job_id: int) -> bool:
    return job_id not in [job.id for job in trial.live()]


def test_marking_an_instance_failed_cancels_its_job_alone(site: Site, trial: Trial) -> None:
    trial.start()
    marked, other = job_of(trial, 0), job_of(trial, 1)

    site.airflow.mark_failed(trial.name, trial.run_id, f"{STEP}.run", 0)

    trial.wait("its job is gone", lambda: is_gone(trial, marked), timeout_s=GONE_S)
    assert not is_gone(trial, other)
    trial.finish(state="failed")
    assert trial.home.statuses(dataset=trial.name)["C/04/0"] == "done"
    assert trial.live() == []
    assert trial.submissions() == [1, 1]


def test_clearing_an_instance_cancels_its_job_and_starts_another(
    site: Site, trial: Trial, undisturbed: Any
) -> None:
    trial.start()
    cleared, other = job_of(trial, 0), job_of(trial, 1)

    site.airflow.clear(trial.name, trial.run_id, (f"{STEP}.run", 0), wait=False)

    trial.wait("its job is gone", lambda: is_gone(trial, cleared), timeout_s=GONE_S)
    trial.wait_until_it_runs()
    assert not is_gone(trial, other)
    trial.finish()
    trial.check(undisturbed, submissions=[1, 2])


def test_failing_the_run_cancels_all_of_its_jobs(site: Site, trial: Trial) -> None:
    trial.start()

    site.airflow.fail_run(trial.name, trial.run_id)

    trial.wait("all jobs are gone", lambda: not trial.live(), timeout_s=GONE_S)
    trial.finish(state="failed")
    assert trial.submissions() == [1, 1]


def test_failing_the_run_while_jobs_are_being_submitted_leaves_none(site: Site, trial: Trial) -> None:
    with site.login_node.held_sbatch("after") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        site.airflow.fail_run(trial.name, trial.run_id)
        trial.wait("Airflow ends them", lambda: not trial.task_processes())

    trial.wait("all jobs are gone", lambda: not trial.live(), timeout_s=GONE_S)
    trial.finish(state="failed")


def test_failing_the_run_while_nobody_knows_if_slurm_took_the_jobs_leaves_none(
    site: Site, trial: Trial
) -> None:
    with site.login_node.held_sbatch("before") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        site.cluster.controller.freeze()
    trial.wait("both wait without a worker", lambda: trial.waiting() == 2)

    site.airflow.fail_run(trial.name, trial.run_id)
    time.sleep(5)
    site.cluster.controller.thaw()

    trial.wait("SLURM took them", lambda: trial.submissions() == [1, 1])
    trial.wait("all jobs are gone", lambda: not trial.live(), timeout_s=2 * GONE_S)


def test_clearing_an_instance_that_waits_by_itself_leaves_one_job(
    site: Site, trial: Trial, undisturbed: Any
) -> None:
    trial.start(wait=False, deferrable=False)
    trial.wait("both jobs run", lambda: len(trial.running()) == 2 and sum(trial.measured()) >= 2)
    cleared = job_of(trial, 0)

    site.airflow.clear(trial.name, trial.run_id, (f"{STEP}.run", 0), wait=False)

    trial.wait("its job is gone", lambda: is_gone(trial, cleared), timeout_s=GONE_S)
    trial.wait("there is a new one", lambda: len(trial.running()) == 2)
    trial.finish()
    trial.check(undisturbed, submissions=[1, 2])
