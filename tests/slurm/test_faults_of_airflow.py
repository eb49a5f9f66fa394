"""Airflow's own processes die while jobs are submitted and run: nothing is lost, nothing is done twice."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.services.daemons import kill_all, send_all
from tests.services.site import Site
from tests.services.trial import Trial

FROZEN_S = 30.0


def test_a_task_process_is_killed_before_it_submits(site: Site, trial: Trial, undisturbed: Any) -> None:
    site.login_node.freeze()
    trial.start(wait=False)
    trial.wait("both are about to connect", lambda: len(trial.task_processes()) == 2)

    kill_all(trial.task_processes())
    site.login_node.thaw()

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_task_process_is_killed_while_sbatch_works(
    site: Site, trial: Trial, undisturbed: Any, when: str
) -> None:
    with site.login_node.held_sbatch(when) as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        killed = trial.task_processes()
        assert len(killed) == 2

        kill_all(killed)
        trial.wait("both are tried again", lambda: len(set(trial.task_processes()) - set(killed)) == 2)

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


def test_a_task_process_is_killed_after_it_has_submitted(site: Site, trial: Trial, undisturbed: Any) -> None:
    with site.login_node.held_sbatch("after") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)
        stopped = trial.task_processes()
        send_all(signal.SIGSTOP, stopped)
    trial.wait("the replies are under way", lambda: not site.login_node.commands())

    kill_all(stopped)

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_a_component_is_killed_while_jobs_run_and_started_again(
    site: Site, trial: Trial, undisturbed: Any, component: str
) -> None:
    trial.start()

    site.airflow.kill(component)
    trial.go_on.touch()
    trial.wait("the jobs end meanwhile", lambda: not trial.live())
    site.airflow.start(component)

    trial.finish()
    trial.check(undisturbed)


def test_one_of_two_triggerers_freezes_for_a_while(site: Site, trial: Trial, undisturbed: Any) -> None:
    trial.start()
    site.airflow.start("triggerer-2")
    first = trial.triggerers()

    site.airflow.freeze("triggerer")
    frozen_at = time.monotonic()
    trial.wait("the other one takes over", lambda: not trial.triggerers() & first)
    time.sleep(max(0, FROZEN_S - (time.monotonic() - frozen_at)))
    site.airflow.thaw("triggerer")
    trial.wait("it finds that it is late", lambda: "goes on elsewhere" in trial.log())

    assert len(trial.running()) == 2
    trial.finish()
    site.airflow.stop("triggerer-2")
    trial.check(undisturbed)


def test_the_scheduler_is_killed_while_tasks_submit(site: Site, trial: Trial, undisturbed: Any) -> None:
    with site.login_node.held_sbatch("before") as held:
        trial.start(wait=False)
        trial.wait("both submit", lambda: len(held()) == 2)

        site.airflow.kill("scheduler")
        site.airflow.start("scheduler")

    trial.wait_until_it_runs()
    trial.finish()
    trial.check(undisturbed)


@pytest.mark.parametrize("what", ["task", "worker"])
def test_a_task_that_waits_by_itself_is_killed(site: Site, trial: Trial, undisturbed: Any, what: str) -> None:
    trial.start(wait=False, deferrable=False)
    trial.wait("both jobs run", lambda: len(trial.running()) == 2 and sum(trial.measured()) >= 2)

    if what == "task":
        kill_all(trial.task_processes())
    else:
        site.airflow.kill("scheduler")  # its LocalExecutor is the worker
        site.airflow.start("scheduler")
    trial.wait("both are tried again", lambda: trial.tries() == [2, 2])

    trial.finish()
    trial.check(undisturbed)
    assert trial.measured() == [1, 1, 1, 1]
