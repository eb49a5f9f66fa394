"""Follows a run of the demo's workflow and prints a line for each step as it ends."""

from __future__ import annotations

import sys
import time

from airflow_api import AirflowApi
from airflow_processes import Components, log_tail
from command import DemoError
from progress import StepProgress, Task, first_failure, step_groups, step_progress

from fractal_airflow.dataset import DatasetStore

POLL_S = 0.5
CLEAR_LINE = "\r\033[K"


def follow_run(
    api: AirflowApi, components: Components, dag_id: str, run_id: str, names: list[str], store: DatasetStore
) -> None:
    """
    Follow a run until it ends.

    :param names: what the steps are called, in the order of the workflow.
    :raises DemoError: where the run fails, or a component of Airflow ends.
    """
    groups = step_groups(api.tasks(dag_id))
    width = max(map(len, names))
    reported = 0
    while True:
        components.check()
        state = api.run_state(dag_id, run_id)
        instances = api.task_instances(dag_id, run_id)
        steps = step_progress(groups, instances)
        while reported < len(steps) and steps[reported].has_ended:
            line = step_line(steps[reported], f"{reported + 1}/{len(steps)}", names[reported].ljust(width))
            print(f"{_cleared()}{line}  {step_outcome(store, run_id, reported)}".rstrip(), flush=True)
            reported += 1
        if state == "success":
            return
        if state == "failed":
            raise DemoError(failure_text(components, dag_id, run_id, instances))
        if reported < len(steps):
            _show_current(f"{reported + 1}/{len(steps)}  {names[reported]}", steps[reported])
        time.sleep(POLL_S)


def step_line(step: StepProgress, number: str, name: str) -> str:
    """Return the line that says how a step ended."""
    word = "failed" if step.has_failed else "done"
    return f"  {number}  {name}  {word} in {step.seconds:5.1f} s"


def step_outcome(store: DatasetStore, run_id: str, index: int) -> str:
    """Return what a step did to the dataset, which has the name of its run."""
    added = sum(version.added for version in store.versions(run_id) if version.step == index)
    done = sum(status.status == "done" for status in store.statuses(run_id, step=index))
    counts = {"processed": done, "added": added}
    return ", ".join(f"{count} images {what}" for what, count in counts.items() if count)


def failure_text(components: Components, dag_id: str, run_id: str, instances: list[Task]) -> str:
    """Return which task failed first, the end of its log, and where the log is."""
    failed = first_failure(instances)
    if failed is None:
        return f"the run {run_id} failed before any of its tasks did"
    log = components.home.task_log(dag_id, run_id, failed)
    return f"the task {failed['task_id']} failed.\n{log_tail(log)}\nIts log: {log}"


def _show_current(step_name: str, step: StepProgress) -> None:
    """Show on a terminal what runs now, on a line that the next one replaces."""
    if sys.stdout.isatty():
        running = sorted({task["task_id"].rpartition(".")[2] for task in step.running})
        sys.stdout.write(f"{CLEAR_LINE}  {step_name}  {', '.join(running)} ...")
        sys.stdout.flush()


def _cleared() -> str:
    return CLEAR_LINE if sys.stdout.isatty() else ""
