"""The last task of a workflow's run: what became of its steps, and the provenance that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow.sdk import TriggerRule

from fractal_airflow.exceptions import TaskExecutionError
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.retries import ONLY_THE_STORE

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from fractal_airflow.dataset import DatasetStore
    from fractal_airflow.fractal import ResolvedTask
    from fractal_airflow.provenance.facts import RunFacts

T = TypeVar("T")

REPORT_KEY = "report"
"""Under this key the report's text is left as XCom, for notifications."""

PROVENANCE_KEY = "provenance"
"""Under this key is the folder of the run's provenance."""


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

    @property
    def single_task_ids(self) -> list[str]:
        """Its tasks that are not mapped."""
        return [
            task_id for task_id in (self.select_task_id, self.init_task_id, self.merge_task_id) if task_id
        ]


class ReportOperator(FractalOperator):
    """
    Say at the end of a run what became of its steps, and fail if anything of them failed.

    The report is the XCom ``report``, a Markdown file in the run folder and, where ``[fractal_airflow]
    api_conn_id`` is set, the task's note. What ran is left as a workflow file and an RO-Crate below the
    dataset's ``zarr_dir``. Where one of these cannot be written, there is a warning, and nothing fails.

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
        retry_policy: RetryPolicy | None = ONLY_THE_STORE,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, retry_policy=retry_policy, **kwargs)
        self.steps = tuple(steps)
        self.workflow_name = workflow_name
        self.workflow_description = workflow_description

    def execute(self, context: Context) -> None:
        """Report; then fail, if a unit or a task of a step failed."""
        from fractal_airflow.operators.run_facts import RunTasks, run_facts

        tasks = RunTasks(context, self.steps)
        if tasks.idle:
            self.log.info("%s: no step had anything to do", self.workflow_name)
            return
        from fractal_airflow.hooks.dataset_store import get_dataset_store
        from fractal_airflow.provenance.report import render_error

        store = get_dataset_store()
        run = run_facts(
            context,
            store,
            tasks,
            self.steps,
            workflow_name=self.workflow_name,
            workflow_description=self.workflow_description,
        )
        where = self._publish(context, store, run)
        if run.failed_steps:
            raise TaskExecutionError(render_error(run, where))

    def _publish(self, context: Context, store: DatasetStore, run: RunFacts) -> str | None:
        """Leave the report and the provenance wherever they go; return where the report's file is."""
        from fractal_airflow.operators.api_note import set_note
        from fractal_airflow.operators.provenance import write_provenance
        from fractal_airflow.operators.report_file import write_report_file
        from fractal_airflow.provenance.report import render_note, render_report, render_warnings

        ti = context["ti"]
        warnings: list[str] = []
        where = None
        report = render_report(run)
        if run.steps_that_ran:
            folder = self._try(
                "The provenance of the run", warnings, lambda: write_provenance(run, store, report)
            )
            if folder:
                ti.xcom_push(key=PROVENANCE_KEY, value=folder)
                self.log.info("The run's provenance is in %s", folder)
            told = report + render_warnings(warnings)
            where = self._try("The report's file", warnings, lambda: write_report_file(run, told))
        report += render_warnings(warnings)
        ti.xcom_push(key=REPORT_KEY, value=report)
        self.log.info("%s", report)
        self._try("The task's note", warnings, lambda: set_note(ti, render_note(run, where)))
        return where

    def _try(self, what: str, warnings: list[str], write: Callable[[], T]) -> T | None:
        """Write something that the run does not depend on."""
        from fractal_airflow.provenance.markdown import first_line

        try:
            return write()
        except Exception as error:
            warnings.append(f"{what} could not be written: {first_line(str(error), most=500)}")
            self.log.warning("%s could not be written", what, exc_info=True)
            return None
