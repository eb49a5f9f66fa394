"""How far a run is, read off Airflow's task instances: plain functions, without Airflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any

Task = dict[str, Any]
"""A task, or a task instance, as Airflow's REST API gives it."""

FAILED = "failed"
ENDED = frozenset({"success", FAILED, "upstream_failed", "skipped", "removed"})


@dataclass(frozen=True)
class StepProgress:
    """How far a step of the workflow is."""

    group: str
    instances: list[Task]

    @property
    def running(self) -> list[str]:
        """The tasks that run now, by their names within the step."""
        ids = {instance["task_id"] for instance in self.instances if instance["state"] == "running"}
        return sorted(task_id.rpartition(".")[2] for task_id in ids)

    @property
    def has_ended(self) -> bool:
        return bool(self.instances) and all(instance["state"] in ENDED for instance in self.instances)

    @property
    def verdict(self) -> str:
        """How a step ended."""
        states = {instance["state"] for instance in self.instances}
        if FAILED in states:
            return "failed"
        return "not run" if "upstream_failed" in states else "done"

    @property
    def seconds(self) -> float:
        """The time from the start of the first task to the end of the last."""
        starts = [_time(instance["start_date"]) for instance in self.instances if instance["start_date"]]
        ends = [_time(instance["end_date"]) for instance in self.instances if instance["end_date"]]
        return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0


def step_groups(tasks: Iterable[Task]) -> list[str]:
    """Return the task groups of a workflow DAG in the order in which they run."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for task in tasks:
        group = _group(task["task_id"])
        if not group:
            continue  # the report, which is in none
        sorter.add(group)
        for downstream in map(_group, task["downstream_task_ids"]):
            if downstream not in ("", group):
                sorter.add(downstream, group)
    return list(sorter.static_order())


def step_progress(groups: Iterable[str], instances: Iterable[Task]) -> list[StepProgress]:
    """Sort task instances by step."""
    by_group: dict[str, list[Task]] = {group: [] for group in groups}
    for instance in instances:
        if _group(instance["task_id"]) in by_group:
            by_group[_group(instance["task_id"])].append(instance)
    return [StepProgress(group, members) for group, members in by_group.items()]


def step_line(step: StepProgress, title: str) -> str:
    """Return the line that says how a step ended."""
    if step.verdict == "not run":
        return f"{title}  not run"
    return f"{title}  {step.verdict} in {step.seconds:5.1f} s"


def first_failure(instances: Iterable[Task]) -> Task | None:
    """Return the task instance that failed first."""
    failed = [instance for instance in instances if instance["state"] == FAILED and instance["end_date"]]
    return min(failed, key=lambda instance: _time(instance["end_date"]), default=None)


def _group(task_id: str) -> str:
    return task_id.rpartition(".")[0]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
