"""Steps that have nothing to do: whether that is so of all that are left, so that a run can end at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from fractal_airflow.fractal import ResolvedTask
    from fractal_airflow.operators.xcoms import RunState


@dataclass(frozen=True)
class WorkflowTasks:
    """
    The tasks of a workflow that is a whole DAG, for its first select: it skips them where none has work to do.

    :param later_selects: the selects of the steps after the first, in order.
    :param tasks: all tasks but the report.
    :param report: the last task, which is never skipped.
    """

    later_selects: Sequence[str]
    tasks: Sequence[str]
    report: str

    def without(self, task_id: str) -> list[str]:
        """Return all tasks but the report and this one."""
        return [each for each in self.tasks if each != task_id]

    def nothing_to_do(
        self, dag: DAG, run: RunState, part: range, has_work: Callable[[Any, RunState], bool]
    ) -> bool:
        """
        Tell whether no later step would get an image, if none before it got any.

        :param run: the state that the first step leaves.
        :param part: the steps that run.
        :param has_work: asks the select of a step, given the state that the step before it leaves.
        """
        if set(dag.task_ids) != {*self.tasks, self.report}:
            return False  # the author's own tasks may wait for any of ours
        for task_id in self.later_selects:
            select: Any = dag.get_task(task_id)
            if select.step.index not in part:
                continue
            if has_work(select, run):
                return False
            run = after_step(run, select.step)
        return True


def after_step(run: RunState, step: ResolvedTask) -> RunState:
    """Return what a step leaves to the next: the run's type filters, with those of its outputs."""
    return {**run, "type_filters": {**run["type_filters"], **step.output_types}}
