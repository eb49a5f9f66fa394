"""The tasks that run a step's commands: over all images, the init of a compound task, or a batch of units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fractal_airflow.fractal import ResolvedTask, parse_init_output
from fractal_airflow.operators.batches import cut_batches, plan_sizes
from fractal_airflow.operators.run_units import Assignment, RunUnitsOperator
from fractal_airflow.operators.xcoms import INIT_KEY, STEP_KEY, Batch, Unit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.execution.units import Outcome


class RunBatchOperator(RunUnitsOperator):
    """
    Run one batch of units: of a parallel task, or of the compute half of a compound task.

    :param batch: the batch, from select or init.
    """

    def __init__(self, *, batch: Batch, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def _assignment(self, context: Context) -> Assignment:
        arguments = self._arguments(context)
        return Assignment(self.batch, [{**arguments, **unit} for unit in self.batch["units"]])


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

    def _assignment(self, context: Context) -> Assignment:
        ti = context["ti"]
        (state,) = ti.xcom_pull(task_ids=[self.select_task_id], key=STEP_KEY)
        ((batch,),) = ti.xcom_pull(task_ids=[self.select_task_id])
        zarr_dir = state["run"]["zarr_dir"]
        arguments = {**self._arguments(context), "zarr_dir": zarr_dir}
        if self.takes_images:
            arguments["zarr_urls"] = [unit["zarr_url"] for unit in batch["units"]]
        return Assignment(batch, [arguments], zarr_dir)


class RunInitOperator(RunNonParallelOperator):
    """
    Run the init half of a compound task and return the batches of its compute half.

    :param step: the workflow task, resolved against its package.
    :param images_per_batch: how many items a mapped task instance takes; default: decided by the resource.
    """

    xcom_key: ClassVar[str] = INIT_KEY

    def __init__(self, *, step: ResolvedTask, images_per_batch: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.images_per_batch = images_per_batch

    @staticmethod
    def _parse(output: object) -> object:
        return parse_init_output(output)

    def _result(self, assignment: Assignment, outcomes: Sequence[Outcome]) -> list[Batch]:
        """Return the batches of the parallelization list."""
        (outcome,) = outcomes
        items = parse_init_output(outcome.output)
        self.log.info("%s: %d units to compute", self.step_name, len(items))
        units = [Unit(zarr_url=item.zarr_url, init_args=item.init_args) for item in items]
        sizes = plan_sizes(
            len(units), self.step, resource=self._resource, images_per_batch=self.images_per_batch
        )
        return cut_batches(units, sizes, zarr_dir=assignment.zarr_dir)
