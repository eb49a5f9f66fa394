"""What the tasks that run a step's commands share: submitting, waiting, and what came of the units."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, cast

from airflow.sdk import BaseXCom

from fractal_airflow.exceptions import ClusterNotReadyError, JobCancelledError, TaskOutputValidationError
from fractal_airflow.fractal import parse_task_output
from fractal_airflow.hooks.fractal import LOCAL, FractalHook
from fractal_airflow.links import DatasetLink, UnitLogsLink
from fractal_airflow.operators.arguments import Form, effective_arguments
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.failures import failure
from fractal_airflow.operators.growth import Growth, grow, read_growth
from fractal_airflow.operators.retries import LOST_JOBS
from fractal_airflow.operators.slurm_choices import parse_account, parse_worker_init
from fractal_airflow.operators.waiting import Waiting, timeout_error
from fractal_airflow.operators.xcoms import USAGE_KEY, Batch

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from fractal_airflow.execution.resource import BatchCall, BatchEnd, Resource
    from fractal_airflow.execution.slurm.messages import Submitted
    from fractal_airflow.execution.slurm.resource import SlurmResource
    from fractal_airflow.execution.units import Outcome


class Assignment(NamedTuple):
    """What a task instance is to run."""

    batch: Batch
    unit_arguments: list[dict[str, Any]]
    zarr_dir: str = ""


class RunUnitsOperator(FractalOperator):
    """
    Base of the operators that run a task's command.

    :param command: the command, as an argument list.
    :param arguments: (templated) the arguments that the workflow sets.
    :param form: the run parameters that override them, by argument.
    :param step_number: the step's place among the steps of the DAG.
    :param step_name: the step's name.
    :param resource: where the units run: the name of an Airflow connection of type ``fractal``, or ``local``.
    :param meta: how to run the units: the task's effective ``meta``.
    :param slurm_account: (templated) the account that a job on a cluster is charged to.
    :param worker_init: (templated) lines of shell at the beginning of a job on a cluster.
    :param deferrable: whether a job on a cluster is waited for without a worker slot, by the triggerer.
    """

    template_fields: Sequence[str] = ("arguments", "slurm_account", "worker_init")
    operator_extra_links = (UnitLogsLink(), DatasetLink())
    xcom_key: ClassVar[str] = BaseXCom.XCOM_RETURN_KEY

    def __init__(
        self,
        *,
        command: Sequence[str],
        arguments: dict[str, Any] | None = None,
        form: Form | None = None,
        step_number: int = 0,
        step_name: str = "",
        resource: str = LOCAL,
        meta: dict[str, Any] | None = None,
        slurm_account: str | None = None,
        worker_init: str | None = None,
        deferrable: bool = True,
        retry_policy: RetryPolicy | None = LOST_JOBS,
        **kwargs: Any,
    ) -> None:
        super().__init__(retry_policy=retry_policy, **kwargs)
        self.command = list(command)
        self.arguments = arguments or {}
        self.form = form or {}
        self.step_number = step_number
        self.step_name = step_name
        self.resource = resource
        self.meta = meta or {}
        self.slurm_account = slurm_account
        self.worker_init = worker_init
        self.deferrable = deferrable
        self._ended = False

    def execute(self, context: Context) -> Any:
        """Run the units; the XCom has their outcomes."""
        return self._run(context, Waiting.until(self.execution_timeout))

    def submit_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after a pause in which the cluster took no job, or did not answer."""
        waiting = Waiting(**event["waiting"])
        if waiting.is_over:
            try:
                self._slurm.cancel_batch(self._call(context, self._assignment(context)))
            except ClusterNotReadyError as error:
                raise timeout_error(self.step_name, error) from error
            raise timeout_error(self.step_name)
        return self._run(context, waiting)

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the end of a job, with what the trigger has brought."""
        waiting = Waiting(**event["waiting"])
        assignment = self._assignment(context)
        call = self._call(context, assignment)
        try:
            return self._resume(context, assignment, call, waiting, event)
        except ClusterNotReadyError as error:
            if waiting.is_over:
                raise timeout_error(self.step_name, error) from error
            self._pause(call, waiting, error, method_name="resume", event=event)

    def on_kill(self) -> None:
        """End the units that run, if it has come to that; else they do not begin."""
        self._ended = True
        if "_resource" in vars(self):
            self._resource.cancel()

    # What the kinds of task differ in

    def _assignment(self, context: Context) -> Assignment:
        """Return what is to be run."""
        raise NotImplementedError

    def _result(self, assignment: Assignment, outcomes: Sequence[Outcome]) -> Any:
        """Return what the task returns, once all units are done."""
        return None

    @staticmethod
    def _parse(output: object) -> object:
        """Check the output of a unit."""
        return parse_task_output(output)

    # Running

    def _arguments(self, context: Context) -> dict[str, Any]:
        """Return the arguments of this run: the workflow's, and what its form has changed."""
        return effective_arguments(self.arguments, self.form, context)

    @cached_property
    def _resource(self) -> Resource:
        return FractalHook(self.resource).get_conn()

    @property
    def _slurm(self) -> SlurmResource:
        return cast("SlurmResource", self._resource)

    @property
    def _log(self) -> logging.Logger:
        return cast(logging.Logger, self.log)

    def _run(self, context: Context, waiting: Waiting, *, defer: bool = True) -> Any:
        assignment = self._assignment(context)
        call = self._call(context, assignment)
        if self._ended:  # Airflow goes on after a signal, for some seconds
            raise JobCancelledError(f"{self.step_name}: the task instance was ended")
        if not (self._resource.defers and self.deferrable and defer):
            end = self._resource.run(call, log=self._log)
            return self._finish(context, assignment, call, end)
        try:
            submitted = self._slurm.submit(call, log=self._log)
            if submitted.job is not None:
                self._wait_for_job(submitted, waiting)
            end = self._slurm.finish(submitted, log=self._log)
            return self._finish(context, assignment, call, end)
        except ClusterNotReadyError as error:
            self._pause(call, waiting, error, method_name="submit_again")

    def _resume(
        self,
        context: Context,
        assignment: Assignment,
        call: BatchCall,
        waiting: Waiting,
        event: dict[str, Any],
    ) -> Any:
        from fractal_airflow.execution.slurm.messages import read_collected
        from fractal_airflow.triggers.slurm import submitted_of

        if event["end"] == "unwatched":
            self.log.warning("The triggerer cannot ask the cluster (see above): waiting for the job here")
            return self._run(context, waiting, defer=False)
        collected = read_collected(event["collected"]) if "collected" in event else None
        end = self._slurm.finish(submitted_of(event["submitted"]), collected=collected, log=self._log)
        if event["end"] == "deadline":
            self._publish(context, assignment, end)
            raise timeout_error(self.step_name)
        if end.cancelled_by and waiting.may_start_over:
            # One of us did that: an earlier try, or a triggerer that took this one for gone.
            self.log.warning("The job was cancelled (%s), but is wanted: submitting again", end.cancelled_by)
            return self._run(context, waiting.started_over())
        return self._finish(context, assignment, call, end)

    def _call(self, context: Context, assignment: Assignment) -> BatchCall:
        from fractal_airflow.execution.resource import BatchCall
        from fractal_airflow.execution.run_folder import batch_folder, run_folder
        from fractal_airflow.execution.units import Work

        ti = context["ti"]
        index, label = assignment.batch["index"], assignment.batch["label"]
        command = tuple(self.command)
        step_folder = run_folder(
            self._resource.work_dir, ti.dag_id, ti.run_id, self.step_number, self.step_name
        )
        # A retry keeps max_tries and clearing raises it: so a retry goes on where the last try stopped,
        # and clearing what was finished starts from scratch. So does a new run with an old one's name.
        generation = f"{context['dag_run'].run_after:%Y-%m-%dT%H:%M:%S.%f}/{ti.max_tries}"
        growth = read_growth(context, generation) if self._resource.defers else Growth(generation)
        return BatchCall(
            assignment.unit_arguments,
            command,
            folder=str(batch_folder(step_folder, index, Work(command, assignment.unit_arguments))),
            generation=generation,
            meta=self.meta,
            label=f"{self.step_name} {label}".strip(),
            account=parse_account(self.slurm_account),
            worker_init=parse_worker_init(self.worker_init),
            memory_factor=growth.memory,
            time_factor=growth.time,
            left=growth.left,
        )

    def _pause(
        self,
        call: BatchCall,
        waiting: Waiting,
        error: ClusterNotReadyError,
        *,
        method_name: str,
        event: dict[str, Any] | None = None,
    ) -> NoReturn:
        """Wait without a worker slot, until the cluster may be asked again."""
        from fractal_airflow.triggers.slurm import SlurmPauseTrigger

        paused, until = waiting.paused(error.pause_s)
        self.log.warning("%s Nothing is lost by waiting: trying again in %.0f s", error, paused.pause_s)
        trigger = SlurmPauseTrigger(
            resource=self.resource,
            folder=call.folder,
            generation=call.generation,
            until=until,
            waiting=paused.to_json(),
            event=event,
        )
        self.defer(trigger=trigger, method_name=method_name)

    def _wait_for_job(self, submitted: Submitted, waiting: Waiting) -> NoReturn:
        from fractal_airflow.triggers.slurm import SlurmJobTrigger

        self.defer(
            trigger=SlurmJobTrigger(
                resource=self.resource,
                submitted=asdict(submitted),
                results_wait_s=self._slurm.config.results_wait,
                deadline=waiting.deadline,
                waiting=waiting.answered().to_json(),
            ),
            method_name="resume",
        )

    # What came of it

    def _finish(self, context: Context, assignment: Assignment, call: BatchCall, end: BatchEnd) -> Any:
        """Publish the outcomes; then fail if a unit failed, or return what the task returns."""
        outcomes = self._publish(context, assignment, end)
        urls = [arguments.get("zarr_url", "") for arguments in assignment.unit_arguments]
        error = failure(self.step_name, list(zip(urls, outcomes, strict=True)))
        if error:
            grow(context, call, outcomes, self._resource, error)
            raise error
        if not end.taken:
            self._resource.take(end.folder)
        return self._result(assignment, outcomes)

    def _publish(self, context: Context, assignment: Assignment, end: BatchEnd) -> list[Outcome]:
        """
        Check the outputs of a batch that has ended, and leave the outcomes as XCom.

        The XCom comes before any failure: what succeeded must reach the merge, whatever happens to the rest.
        """
        from fractal_airflow.execution.units import dump_outcomes, rejected

        outcomes = end.outcomes
        broken = _broken_outputs(outcomes, self._parse)
        if broken:
            self._resource.reject(end.folder, broken)
            outcomes = [
                rejected(outcome, broken[index]) if index in broken else outcome
                for index, outcome in enumerate(outcomes)
            ]
        ti = context["ti"]
        about = {"index": assignment.batch["index"], "try": ti.try_number}
        xcom = {**about, **dump_outcomes(outcomes, end.folder)}
        ti.xcom_push(key=self.xcom_key, value=xcom)
        if end.usage:
            ti.xcom_push(key=USAGE_KEY, value=end.usage)
        return outcomes


def _broken_outputs(outcomes: Sequence[Outcome], parse: Callable[[object], object]) -> dict[int, str]:
    """Return what is wrong with the outputs that break the schema, by the index of their unit."""
    broken: dict[int, str] = {}
    for index, outcome in enumerate(outcomes):
        if outcome.status == "done":
            try:
                parse(outcome.output)
            except TaskOutputValidationError as error:
                broken[index] = str(error)
    return broken
