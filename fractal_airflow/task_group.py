"""One workflow task as Airflow objects: a task group that selects images, runs the task, and merges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import TaskGroup, XComArg

from fractal_airflow.assets import DATASETS
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import ResolvedTask, TaskPackage, resolve_workflow, workflow_of_task
from fractal_airflow.fractal.manifest import Half
from fractal_airflow.hooks.fractal import LOCAL
from fractal_airflow.operators.arguments import Form
from fractal_airflow.operators.merge import MergeOutputsOperator
from fractal_airflow.operators.report_run import ReportedStep
from fractal_airflow.operators.retries import DEFAULT_RETRIES, FAILED_TASKS_TOO
from fractal_airflow.operators.run import RunBatchOperator, RunInitOperator, RunNonParallelOperator
from fractal_airflow.operators.select import SelectImagesOperator
from fractal_airflow.operators.templates import is_template
from fractal_airflow.run_parameters import check_run_values


class FractalTaskGroup(TaskGroup):
    """
    One workflow task as a task group: select, (init,) run, merge.

    :param task: the task's name in its package, or a task that is resolved already.
    :param package: the task package.
    :param dataset: (templated) a dataset's name, or the ``output`` of the group before.
    :param zarr_dir: (templated) where tasks make OME-Zarrs; a converter makes the dataset with it.
    :param args_non_parallel: (templated) arguments of the non-parallel or init command.
    :param args_parallel: (templated) arguments of the parallel or compute command.
    :param meta_non_parallel: how to run the non-parallel or init command, over what the manifest says.
    :param meta_parallel: how to run the parallel or compute command, over what the manifest says.
    :param type_filters: types that the step's images must have, besides those that the task asks for.
    :param attribute_filters: (templated) the run's attribute filters, where ``dataset`` is a name.
    :param images: (templated) which images are processed, where ``dataset`` is a name: ``all``; ``pending``, not
        yet done; ``failed``; or ``event``, those of the dataset event that started the run.
    :param on_failure: (templated) what follows a step with failed images, where ``dataset`` is a name: ``stop``,
        or ``continue`` without them.
    :param together: attributes that images share which the task needs together, such as ``["plate", "well"]``:
        where one of them is chosen, all are.
    :param resource: where units run: an Airflow connection of type ``fractal``, or ``local``.
    :param images_per_batch: images a mapped task instance; default: chosen by the resource.
    :param slurm_account: (templated) the account that jobs on a cluster are charged to.
    :param worker_init: (templated) lines of shell at the beginning of every job on a cluster.
    :param deferrable: whether jobs on a cluster are waited for without a worker slot, by the triggerer.
    :param retry_failed_tasks: whether ``retries`` are also for units whose task failed, not only for lost jobs.
    :param form: the run parameters that override arguments: ``{"parallel": {argument: parameter}}``.
    :param run_type_filters: (templated) the run's type filters before this step, where ``dataset`` is a name.
    :param step_count: how many steps the workflow has that this one is part of.
    :param first_task_index: (templated) the first of them that runs.
    :param last_task_index: (templated) the last of them that runs.
    :param emits_events: whether a merge that has changed the dataset is an event of it.
    :param ends_workflow: whether its event is for all that the run has changed.
    :param group_id: default: made from the task's name.
    :raises WorkflowError: all that is wrong with the task, its arguments and filters.
    """

    def __init__(
        self,
        task: str | ResolvedTask,
        package: TaskPackage | None = None,
        *,
        dataset: str | XComArg,
        zarr_dir: str | None = None,
        args_non_parallel: Mapping[str, Any] | None = None,
        args_parallel: Mapping[str, Any] | None = None,
        meta_non_parallel: Mapping[str, Any] | None = None,
        meta_parallel: Mapping[str, Any] | None = None,
        type_filters: Mapping[str, bool] | None = None,
        attribute_filters: Any = None,
        images: str | None = None,
        on_failure: str | None = None,
        together: Sequence[str] = (),
        resource: str = LOCAL,
        images_per_batch: int | None = None,
        slurm_account: str | None = None,
        worker_init: str | None = None,
        deferrable: bool = True,
        retry_failed_tasks: bool = False,
        form: Mapping[str, Form] | None = None,
        run_type_filters: Any = None,
        step_count: int = 1,
        first_task_index: Any = None,
        last_task_index: Any = None,
        emits_events: bool = True,
        ends_workflow: bool = False,
        group_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(task, str):
            step = resolve_workflow(
                workflow_of_task(
                    task,
                    args_non_parallel=args_non_parallel,
                    args_parallel=args_parallel,
                    meta_non_parallel=meta_non_parallel,
                    meta_parallel=meta_parallel,
                    type_filters=type_filters,
                ),
                as_packages(package),
                ignore=is_template,
            )[0]
        else:
            step = task
        check_run_values(
            step.name,
            step_count,
            dataset=dataset,
            images_per_batch=images_per_batch,
            zarr_dir=zarr_dir,
            attribute_filters=attribute_filters,
            type_filters=run_type_filters,
            images=images,
            on_failure=on_failure,
            together={step.name: together} if together else None,
            first_task_index=first_task_index,
            last_task_index=last_task_index,
            slurm_account=slurm_account,
            worker_init=worker_init,
        )
        self.step = step
        self.form = dict(form or {})
        self.emits_events = emits_events
        self.ends_workflow = ends_workflow
        self.resource = resource
        self.images_per_batch = images_per_batch
        self._how_to_run = {
            "slurm_account": slurm_account,
            "worker_init": worker_init,
            "deferrable": deferrable,
            **({"retry_policy": FAILED_TASKS_TOO} if retry_failed_tasks else {}),
        }
        kwargs = {"group_display_name": step.name, "tooltip": step.category, **kwargs}
        super().__init__(group_id=group_id or slug(step.name), **kwargs)
        # Each step of a DAG has its own number, whatever workflow it comes from: it tells steps apart in the
        # history and in the run folder.
        self.number = sum(isinstance(each, SelectImagesOperator) for each in self.dag.tasks)
        with self:
            select = SelectImagesOperator(
                task_id="select",
                step=step,
                step_number=self.number,
                dataset=dataset,
                zarr_dir=zarr_dir,
                type_filters=run_type_filters,
                attribute_filters=attribute_filters,
                images=images,
                on_failure=on_failure,
                together=together,
                arguments={"non_parallel": step.args_non_parallel, "parallel": step.args_parallel},
                form=self.form,
                resource=resource,
                images_per_batch=images_per_batch,
                step_count=step_count,
                first_task_index=first_task_index,
                last_task_index=last_task_index,
                doc_md="Reads the image list, chooses the step's images and cuts them into batches.",
            )
            self.select = select
            self.merge = self._add_run_and_merge(select)

    @property
    def output(self) -> XComArg:
        """What the step leaves: give it to the next group as ``dataset``."""
        return self.merge.output

    def _add_run_and_merge(self, select: SelectImagesOperator) -> MergeOutputsOperator:
        step = self.step
        init = None
        if step.type in ("compound", "converter_compound"):
            init = RunInitOperator(
                task_id="init",
                step=step,
                images_per_batch=self.images_per_batch,
                **self._whole_list_arguments(select),
            )
            run = self._mapped_run(init.output)
            select >> init
        elif step.type == "parallel":
            run = self._mapped_run(select.output)
        else:
            run = RunNonParallelOperator(task_id="run", **self._whole_list_arguments(select))
            select >> run
        merge = MergeOutputsOperator(
            task_id="merge",
            step=step,
            select_task_id=select.task_id,
            init_task_id=init.task_id if init else None,
            run_task_id=run.task_id,
            step_number=self.number,
            resource=self.resource,
            outlets=[DATASETS] if self.emits_events else [],
            ends_workflow=self.ends_workflow,
            doc_md="Merges what the units returned into the dataset and records each image's status.",
            **self._default_retries(),
        )
        [select, run] >> merge
        self.reported = ReportedStep(
            step,
            self.number,
            select.task_id,
            run.task_id,
            merge.task_id,
            init.task_id if init else None,
            self.resource,
        )
        return merge

    def _whole_list_arguments(self, select: SelectImagesOperator) -> dict[str, Any]:
        return {
            **self._run_arguments("non_parallel"),
            "select_task_id": select.task_id,
            "takes_images": not self.step.is_converter,
        }

    def _mapped_run(self, batches: XComArg) -> Any:
        return RunBatchOperator.partial(
            task_id="run", map_index_template="{{ task.batch.label }}", **self._run_arguments("parallel")
        ).expand(batch=batches)

    def _run_arguments(self, half: Half) -> dict[str, Any]:
        step = self.step
        return {
            "command": step.command(half),
            "arguments": step.args_non_parallel if half == "non_parallel" else step.args_parallel,
            "form": self.form.get(half, {}),
            "step_number": self.number,
            "step_name": step.name,
            "resource": self.resource,
            "meta": step.meta_non_parallel if half == "non_parallel" else step.meta_parallel,
            "doc_md": step.docs_info,
            **self._how_to_run,
            **self._default_retries(),
        }

    def _default_retries(self) -> dict[str, Any]:
        # On this machine, what is lost is lost with the task process; on a cluster, a node may fail any day.
        said = "retries" in self.default_args or "retries" in self.dag.default_args
        return {} if said or self.resource == LOCAL else {"retries": DEFAULT_RETRIES}


def slug(name: str) -> str:
    """Return a name as an Airflow id: lower case, words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "step"


def as_packages(packages: TaskPackage | Sequence[TaskPackage] | None) -> list[TaskPackage]:
    """
    Return task packages as a list.

    :raises WorkflowError: where they are something else.
    """
    listed = [packages] if isinstance(packages, TaskPackage) else packages
    if isinstance(listed, (list, tuple)) and all(isinstance(each, TaskPackage) for each in listed):
        return list(listed)
    raise WorkflowError(
        f"packages: must be task packages, not {packages!r}: "
        "make them with TaskPackage.from_environment or TaskPackage.from_directory"
    )
