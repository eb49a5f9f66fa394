"""The last task of a workflow's run: what became of its steps, and the provenance that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, TriggerRule

from fractal_airflow.exceptions import FractalAirflowError, TaskExecutionError
from fractal_airflow.operators.base import FractalOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from fractal_airflow.fractal import ResolvedTask

NO_RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=FractalAirflowError, action=RetryAction.FAIL, reason="a report changes nothing")
    ]
)


class ReportedStep(NamedTuple):
    """
    A step of the workflow, and the tasks that it is in Airflow.

    :param step: the workflow task, resolved against its package.
    :param number: the step's place among the steps of the DAG.
    :param resource: where its units run.
    """

    step: ResolvedTask
    number: int
    select_task_id: str
    run_task_id: str
    merge_task_id: str
    init_task_id: str | None = None
    resource: str = "local"


class ReportOperator(FractalOperator):
    """
    Say at the end of a run what became of its steps, and fail if anything of them failed.

    :param steps: the workflow's steps, in order.
    :param workflow_name: what the workflow is called.
    :param workflow_description: what it says of itself.
    """

    ui_color = "#f8f0e8"

    def __init__(
        self,
        *,
        steps: Sequence[ReportedStep],
        workflow_name: str,
        workflow_description: str | None = None,
        trigger_rule: str = TriggerRule.ALL_DONE,
        retry_policy: RetryPolicy | None = NO_RETRIES,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, retry_policy=retry_policy, **kwargs)
        self.steps = tuple(steps)
        self.workflow_name = workflow_name
        self.workflow_description = workflow_description

    def execute(self, context: Context) -> None:
        """Fail, if a task of a step failed."""
        ti = context["ti"]
        wanted = [task_id for step in self.steps for task_id in (step.select_task_id, step.merge_task_id)]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=wanted, run_ids=[ti.run_id])
        failed = [task_id for task_id, state in states.get(ti.run_id, {}).items() if state == "failed"]
        if failed:
            raise TaskExecutionError(f"{self.workflow_name}: failed in {', '.join(failed)}")
