"""What a run tells beside its operators' own lines, and how it ends where nothing is left to do."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException
from jinja2 import TemplateError

from fractal_airflow.cli.output import counted
from fractal_airflow.cli.stopping import Stopped, listen_to_signals
from fractal_airflow.exceptions import (
    FractalAirflowError,
    JobExecutionError,
    TaskExecutionError,
    TaskOutputValidationError,
)
from fractal_airflow.operators.merge import MergeOutputsOperator
from fractal_airflow.operators.report_run import ReportOperator
from fractal_airflow.operators.select import SelectImagesOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

_OF_UNITS = (TaskExecutionError, JobExecutionError, TaskOutputValidationError)
_TOLD_IN_A_LINE = (FractalAirflowError, AirflowException, TemplateError, Stopped)


class NothingLeft(BaseException):
    """Ends ``dag.test`` where somebody has stopped the run. Airflow swallows Exceptions."""


class Progress:
    """
    Follows the tasks of a run through their callbacks.

    :ivar error: why the run failed.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self._stopped = False

    def callbacks(self) -> dict[str, Callable[[Context], None]]:
        """Return the callbacks, to be used as a DAG's ``default_args``."""
        return {
            "on_execute_callback": self._started,
            "on_success_callback": self._succeeded,
            "on_retry_callback": self._to_be_tried_again,
            "on_failure_callback": self._failed,
        }

    def _started(self, context: Context) -> None:
        # Airflow's task runner has just taken SIGTERM, and not every operator knows what to do with it.
        listen_to_signals()
        if not gc.isenabled():
            gc.freeze()
            gc.enable()

    def _succeeded(self, context: Context) -> None:
        task: Any = context["task"]
        if isinstance(task, SelectImagesOperator):
            (batches,) = context["ti"].xcom_pull(task_ids=[task.task_id])
            if batches is None:
                print(f"{task.step.name}: nothing to do, nor in any later step", flush=True)
                return
            images = counted(sum(len(batch["units"]) for batch in batches), "image")
            what = "a converter, takes no images" if task.step.is_converter else images
            print(f"[{task.step.index + 1}/{task.step_count}] {task.step.name}: {what}", flush=True)

    def _to_be_tried_again(self, context: Context) -> None:
        error: Any = context["exception"]
        if isinstance(error, Stopped):
            self._failed(context)
            raise NothingLeft

    def _failed(self, context: Context) -> None:
        task: Any = context["task"]
        error: Any = context["exception"]
        if isinstance(error, Stopped):
            self._stopped = True
            task.on_kill()  # a job on a cluster does not end with this process
        knows_all = isinstance(task, (MergeOutputsOperator, ReportOperator))
        if not isinstance(error, _TOLD_IN_A_LINE):
            traceback.print_exception(error, file=sys.stderr)
        # What befell units is told best by the merge, which knows all of the step's, or by the report.
        if self.error is None and (knows_all or not isinstance(error, _OF_UNITS)):
            self.error = _text(error)
        if self._stopped and knows_all:  # what had succeeded is merged
            raise NothingLeft


def _text(error: Any) -> str:
    return str(error) or type(error).__name__
