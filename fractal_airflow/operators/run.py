"""The tasks that run a step's commands: over all images, the init of a compound task, or a batch of units."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseXCom

from fractal_airflow.exceptions import TaskOutputValidationError
from fractal_airflow.fractal import ResolvedTask, parse_init_output, parse_task_output
from fractal_airflow.hooks.fractal import FractalHook
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.failures import failure
from fractal_airflow.operators.select import cut_batches, plan_sizes
from fractal_airflow.operators.xcoms import INIT_KEY, STEP_KEY, Batch, StepState, Unit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.execution.resource import BatchCall, Resource
    from fractal_airflow.execution.units import Outcome


class RunUnitsOperator(FractalOperator):
    """
    Base of the operators that run a task's command.

    :param command: the command, as an argument list.
    :param arguments: (templated) the arguments that the workflow sets.
    :param step_number: the step's place among the steps of the DAG.
    :param step_name: the step's name.
    :param resource: where the units run: the name of an Airflow connection of type ``fractal``, or ``local``.
    :param meta: how to run the units: the task's effective ``meta``.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(
        self,
        *,
        command: Sequence[str],
        arguments: dict[str, Any] | None = None,
        step_number: int = 0,
        step_name: str = "",
        resource: str = "local",
        meta: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = list(command)
        self.arguments = arguments or {}
        self.step_number = step_number
        self.step_name = step_name
        self.resource = resource
        self.meta = meta or {}

    @cached_property
    def _resource(self) -> Resource:
        return FractalHook(self.resource).get_conn()

    def on_kill(self) -> None:
        """End the units that run, if it has come to that."""
        if "_resource" in vars(self):
            self._resource.cancel()

    def _run(
        self,
        context: Context,
        batch: Batch,
        unit_arguments: list[dict[str, Any]],
        *,
        parse: Callable[[object], object],
        key: str = BaseXCom.XCOM_RETURN_KEY,
    ) -> list[Outcome]:
        """
        Run units, publish their outcomes as XCom, then fail if one of them failed.

        The XCom comes first: what succeeded must reach the merge, whatever happens to the rest.
        """
        from fractal_airflow.execution.units import dump_outcomes, rejected

        ti = context["ti"]
        context["label"] = batch["label"]  # type: ignore[typeddict-unknown-key]
        end = self._resource.run(
            self._call(context, batch, unit_arguments), log=cast(logging.Logger, self.log)
        )
        outcomes = end.outcomes
        broken = _broken_outputs(outcomes, parse)
        if broken:
            self._resource.reject(end.folder, broken)
            outcomes = [
                rejected(outcome, broken[index]) if index in broken else outcome
                for index, outcome in enumerate(outcomes)
            ]
        xcom = {"index": batch["index"], **dump_outcomes(outcomes, end.folder)}
        ti.xcom_push(key=key, value=xcom)
        urls = [arguments.get("zarr_url", "") for arguments in unit_arguments]
        error = failure(self.step_name, list(zip(urls, outcomes, strict=True)))
        if error:
            raise error
        self._resource.take(end.folder)
        return outcomes

    def _call(self, context: Context, batch: Batch, unit_arguments: list[dict[str, Any]]) -> BatchCall:
        from fractal_airflow.execution.resource import BatchCall
        from fractal_airflow.execution.run_folder import batch_folder, run_folder
        from fractal_airflow.execution.units import Work

        ti = context["ti"]
        command = tuple(self.command)
        step_folder = run_folder(
            self._resource.work_dir, ti.dag_id, ti.run_id, self.step_number, self.step_name
        )
        return BatchCall(
            unit_arguments,
            command,
            folder=str(batch_folder(step_folder, batch["index"], Work(command, unit_arguments))),
            # A retry keeps max_tries and clearing raises it: so a retry goes on where the last try stopped,
            # and clearing what was finished starts from scratch. So does a new run with an old one's name.
            generation=f"{context['dag_run'].run_after:%Y-%m-%dT%H:%M:%S.%f}/{ti.max_tries}",
            meta=self.meta,
            label=batch["label"],
        )


class RunBatchOperator(RunUnitsOperator):
    """
    Run one batch of units: of a parallel task, or of the compute half of a compound task.

    :param batch: the batch, from select or init.
    """

    def __init__(self, *, batch: Batch, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def execute(self, context: Context) -> None:
        """Run the units of the batch; the XCom has their outcomes."""
        unit_arguments = [{**self.arguments, **unit} for unit in self.batch["units"]]
        self._run(context, self.batch, unit_arguments, parse=parse_task_output)


class RunNonParallelOperator(RunUnitsOperator):
    """
    Run a non-parallel task or a converter: one command.

    :param select_task_id: the task that selected the images.
    :param takes_images: whether the command is given ``zarr_urls``; a converter's is not.
    """

    def __init__(self, *, select_task_id: str, takes_images: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.select_task_id = select_task_id
        self.takes_images = takes_images

    def execute(self, context: Context) -> None:
        """Run the command; the XCom has its outcome."""
        state, batch = self._selected(context)
        arguments = self._whole_list_arguments(state, batch)
        self._run(context, batch, [arguments], parse=parse_task_output)

    def _selected(self, context: Context) -> tuple[StepState, Batch]:
        ti = context["ti"]
        (state,) = ti.xcom_pull(task_ids=[self.select_task_id], key=STEP_KEY)
        (batches,) = ti.xcom_pull(task_ids=[self.select_task_id])
        return state, batches[0]

    def _whole_list_arguments(self, state: StepState, batch: Batch) -> dict[str, Any]:
        arguments = {**self.arguments, "zarr_dir": state["run"]["zarr_dir"]}
        if self.takes_images:
            arguments["zarr_urls"] = [unit["zarr_url"] for unit in batch["units"]]
        return arguments


class RunInitOperator(RunNonParallelOperator):
    """
    Run the init half of a compound task and return the batches of its compute half.

    :param step: the workflow task, resolved against its package.
    :param images_per_batch: how many items a mapped task instance takes; default: decided by the resource.
    """

    def __init__(self, *, step: ResolvedTask, images_per_batch: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.images_per_batch = images_per_batch

    def execute(self, context: Context) -> list[Batch]:  # type: ignore[override]
        """Run the command; return the batches of its parallelization list."""
        state, batch = self._selected(context)
        arguments = self._whole_list_arguments(state, batch)
        (outcome,) = self._run(context, batch, [arguments], key=INIT_KEY, parse=parse_init_output)
        items = parse_init_output(outcome.output)
        self.log.info("%s: %d units to compute", self.step_name, len(items))
        units = [Unit(zarr_url=item.zarr_url, init_args=item.init_args) for item in items]
        sizes = plan_sizes(
            len(units), self.step, resource=self._resource, images_per_batch=self.images_per_batch
        )
        return cut_batches(units, sizes, zarr_dir=state["run"]["zarr_dir"])


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
