"""Follows a run of the demo's workflow and prints a line for each step as it ends."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from airflow_api import AirflowApi
from airflow_processes import Components, log_tail
from command import DemoError
from progress import StepProgress, Task, first_failure, step_groups, step_line, step_progress

from fractal_airflow.dataset import DatasetStore

POLL_S = 0.5
CLEAR_LINE = "\r\033[K"


@dataclass(frozen=True)
class RunFollower:
    """
    Follows one run.

    :param run_id: the name of the run, and of its dataset.
    :param step_names: what the steps are called, in the order of the workflow.
    """

    api: AirflowApi
    components: Components
    store: DatasetStore
    dag_id: str
    run_id: str
    step_names: list[str]

    def follow(self) -> None:
        """
        Follow the run until it ends.

        :raises DemoError: where the run fails, or a component of Airflow ends.
        """
        groups = step_groups(self.api.tasks(self.dag_id))
        reported = 0
        while True:
            self.components.check()
            state = self.api.run_state(self.dag_id, self.run_id)
            instances = self.api.task_instances(self.dag_id, self.run_id)
            steps = step_progress(groups, instances)
            while reported < len(steps) and steps[reported].has_ended:
                self._report(steps[reported], reported)
                reported += 1
            if state == "failed" or (state == "success" and first_failure(instances)):
                raise DemoError(self._failure(instances))
            if state == "success":
                return
            if reported < len(steps) and sys.stdout.isatty():
                running = ", ".join(steps[reported].running)
                sys.stdout.write(f"{CLEAR_LINE}  {self._title(reported)}  {running} ...")
                sys.stdout.flush()
            time.sleep(POLL_S)

    def _report(self, step: StepProgress, index: int) -> None:
        outcome = self._outcome(index) if step.verdict == "done" else ""
        if sys.stdout.isatty():
            sys.stdout.write(CLEAR_LINE)
        print(f"  {step_line(step, self._title(index))}  {outcome}".rstrip(), flush=True)

    def _title(self, index: int) -> str:
        width = max(map(len, self.step_names))
        return f"{index + 1}/{len(self.step_names)}  {self.step_names[index]:{width}}"

    def _outcome(self, index: int) -> str:
        """Return what a step did to the dataset."""
        versions = self.store.versions(self.run_id)
        added = sum(version.added for version in versions if version.step == index)
        done = sum(status.status == "done" for status in self.store.statuses(self.run_id, step=index))
        counts = {"processed": done, "added": added}
        return ", ".join(f"{count} images {what}" for what, count in counts.items() if count)

    def _failure(self, instances: list[Task]) -> str:
        """Return which task failed first, the end of its log, and where the log is."""
        failed = first_failure(instances)
        if failed is None:
            return f"the run {self.run_id} failed before any of its tasks did"
        log = self.components.home.task_log(self.dag_id, self.run_id, failed)
        return f"the task {failed['task_id']} failed.\n{log_tail(log)}\nIts log: {log}"
