"""From a workflow to Airflow objects: a group of task groups, or a DAG around them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, TaskGroup, XComArg

from fractal_airflow.argument_form import argument_params
from fractal_airflow.chain import Events, add_report, chain_steps, resource_of_steps
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import (
    ResolvedTask,
    TaskPackage,
    Workflow,
    load_workflow,
    resolve_workflow,
)
from fractal_airflow.fractal.choice import ImageChoice, OnFailure
from fractal_airflow.hooks.fractal import LOCAL
from fractal_airflow.operators.idle import WorkflowTasks
from fractal_airflow.operators.templates import is_template
from fractal_airflow.run_parameters import check_run_values, run_parameters
from fractal_airflow.task_group import as_packages, slug

WorkflowSource = str | Path | Mapping[str, Any] | Workflow


class FractalWorkflowGroup(TaskGroup):
    """
    A whole workflow as a task group, step after step.

    :param workflow: a workflow file (a path relative to the file that calls, or absolute), or its content.
    :param packages: the task packages that it uses.
    :param dataset: (templated) a dataset's name, or the ``output`` of a group before.
    :param zarr_dir: (templated) the folder in which tasks make OME-Zarrs.
    :param attribute_filters: (templated) which images of the dataset take part, for the whole run.
    :param type_filters: (templated) the types that the run starts from.
    :param images: (templated) which images are processed: ``all``; ``pending``, not yet done, or changed since;
        ``failed``; or ``event``, those of the dataset event that started the run.
    :param on_failure: (templated) what follows a step with failed images: ``stop``, or ``continue`` without them.
    :param together: the images that a task needs together where not all are processed, as the attributes that
        they share, by the task's name or alias: ``{"Calculate Registration": ["plate", "well"]}``.
    :param events: when a run is an event of its dataset: after all ``steps`` that changed it, or once at its ``end``.
    :param first_task_index: (templated) the first step to run, counted from 0.
    :param last_task_index: (templated) the last step to run.
    :param resource: where units run: an Airflow connection of type ``fractal``, or ``local``.
    :param resources: where the units of single tasks run, by the task's name or alias, in place of ``resource``.
    :param images_per_batch: images a mapped task instance; default: chosen by the resource.
    :param slurm_account: (templated) the account that jobs on a cluster are charged to.
    :param worker_init: (templated) lines of shell at the beginning of every job on a cluster.
    :param deferrable: whether jobs on a cluster are waited for without a worker slot, by the triggerer.
    :param retry_failed_tasks: whether ``retries`` are also for units whose task failed, not only for lost jobs.
    :param group_id: default: made from the workflow's name.
    :raises WorkflowError: all that is wrong with the workflow, in one message.
    """

    def __init__(
        self,
        workflow: WorkflowSource,
        packages: TaskPackage | Sequence[TaskPackage],
        *,
        dataset: str | XComArg,
        zarr_dir: str | None = None,
        attribute_filters: Any = None,
        type_filters: Any = None,
        images: str | None = None,
        on_failure: str | None = None,
        together: Mapping[str, Sequence[str]] | None = None,
        events: Events = "steps",
        first_task_index: Any = None,
        last_task_index: Any = None,
        resource: str = LOCAL,
        resources: Mapping[str, str] | None = None,
        images_per_batch: int | None = None,
        slurm_account: str | None = None,
        worker_init: str | None = None,
        deferrable: bool = True,
        retry_failed_tasks: bool = False,
        group_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        loaded = _load(workflow, relative_to=_callers_file())
        self.steps = resolve_workflow(loaded, as_packages(packages), ignore=is_template)
        kwargs = {"tooltip": loaded.description or "", "group_display_name": loaded.name, **kwargs}
        super().__init__(group_id=group_id or slug(loaded.name), **kwargs)
        with self:
            self.groups = chain_steps(
                self.steps,
                dataset=dataset,
                zarr_dir=zarr_dir,
                attribute_filters=attribute_filters,
                type_filters=type_filters,
                images=images,
                on_failure=on_failure,
                together=together,
                events=events,
                first_task_index=first_task_index,
                last_task_index=last_task_index,
                resources=resource_of_steps(self.steps, resource, resources),
                images_per_batch=images_per_batch,
                slurm_account=slurm_account,
                worker_init=worker_init,
                deferrable=deferrable,
                retry_failed_tasks=retry_failed_tasks,
            )
            self.report = add_report(loaded, self.groups)

    @property
    def output(self) -> XComArg:
        """What the last step leaves: give it to a later group as ``dataset``."""
        return self.groups[-1].output


class FractalDag(DAG):
    """
    A workflow as a DAG of its own, with run parameters for the dataset, the filters and the part to run.

    :param dag_id: the DAG's name.
    :param workflow: a workflow file (a path relative to the DAG's own file, or absolute), or its content.
    :param packages: the task packages that it uses.
    :param dataset: (templated) the dataset; a run can name another one. None: every run must name one.
    :param zarr_dir: (templated) the folder in which tasks make OME-Zarrs; a run can name another one.
    :param attribute_filters: (templated) which images take part; a run can choose others.
    :param type_filters: (templated) the types that a run starts from; a run can choose others.
    :param images: which images are processed: ``all``; ``pending``, not yet done, or changed since; ``failed``; or
        ``event``, those of the dataset event that started the run. A run can choose otherwise.
    :param on_failure: what follows a step with failed images: ``stop``, or ``continue`` without them. A run can
        choose otherwise.
    :param together: the images that a task needs together where not all are processed, as the attributes that
        they share, by the task's name or alias: ``{"Calculate Registration": ["plate", "well"]}``.
    :param events: when a run is an event of its dataset: after all ``steps`` that changed it, or once at its ``end``.
    :param arguments_form: whether the tasks' arguments are run parameters, too, with a form.
    :param resource: where units run: an Airflow connection of type ``fractal``, or ``local``.
    :param resources: where the units of single tasks run, by the task's name or alias, in place of ``resource``.
    :param images_per_batch: images a mapped task instance; default: chosen by the resource.
    :param slurm_account: (templated) the account that jobs on a cluster are charged to; a run can name another.
    :param worker_init: (templated) lines of shell at the beginning of every job on a cluster; a run can give
        others.
    :param deferrable: whether jobs on a cluster are waited for without a worker slot, by the triggerer.
    :param retry_failed_tasks: whether ``retries`` are also for units whose task failed, not only for lost jobs.
    :param params: more run parameters, which arguments may name as ``{{ params.NAME }}``.
    :param kwargs: all that a DAG takes: ``schedule``, ``start_date``, ``default_args``, ``tags``, …
    :raises WorkflowError: all that is wrong with the workflow, in one message.
    """

    def __init__(
        self,
        dag_id: str,
        workflow: WorkflowSource,
        packages: TaskPackage | Sequence[TaskPackage],
        *,
        dataset: str | None = None,
        zarr_dir: str | None = None,
        attribute_filters: Mapping[str, Any] | str | None = None,
        type_filters: Mapping[str, Any] | str | None = None,
        images: ImageChoice = "all",
        on_failure: OnFailure = "stop",
        together: Mapping[str, Sequence[str]] | None = None,
        events: Events = "steps",
        arguments_form: bool = True,
        resource: str = LOCAL,
        resources: Mapping[str, str] | None = None,
        images_per_batch: int | None = None,
        slurm_account: str | None = None,
        worker_init: str | None = None,
        deferrable: bool = True,
        retry_failed_tasks: bool = False,
        params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        callers_file = _callers_file()
        loaded = _load(workflow, relative_to=callers_file)
        self.steps = resolve_workflow(loaded, as_packages(packages), ignore=is_template)
        start: dict[str, Any] = {
            "zarr_dir": zarr_dir,
            "attribute_filters": attribute_filters,
            "type_filters": type_filters,
            "images": images,
            "on_failure": on_failure,
        }
        of_jobs: dict[str, Any] = {"slurm_account": slurm_account, "worker_init": worker_init}
        known = "{{ params.dataset }}" if dataset is None else dataset
        check_run_values(
            loaded.label,
            len(self.steps),
            dataset=known,
            images_per_batch=images_per_batch,
            **start,
            **of_jobs,
        )
        where = resource_of_steps(self.steps, resource, resources)
        on_cluster = any(each != LOCAL for each in where)
        run_params = run_parameters(self.steps, dataset=dataset, on_cluster=on_cluster, **start, **of_jobs)
        kwargs = {"description": loaded.description, "doc_md": workflow_docs(loaded, self.steps), **kwargs}
        super().__init__(dag_id, params={**run_params, **(params or {})}, **kwargs)
        self.fileloc = str(callers_file)
        with self:
            self.groups = chain_steps(
                self.steps,
                **{name: f"{{{{ params.{name} }}}}" for name in run_params},
                together=together,
                events=events,
                arguments_form=arguments_form,
                resources=where,
                images_per_batch=images_per_batch,
                deferrable=deferrable,
                retry_failed_tasks=retry_failed_tasks,
            )
            self.report = add_report(loaded, self.groups)
        if arguments_form:  # after the tasks: each would make a copy of all parameters that are there before
            self.params.update(argument_params(self.steps))
        first, *later = [group.select for group in self.groups]
        tasks = [task_id for task_id in self.task_ids if task_id != self.report.task_id]
        first.workflow = WorkflowTasks([each.task_id for each in later], tasks, self.report.task_id)


def workflow_docs(workflow: Workflow, steps: Sequence[ResolvedTask]) -> str:
    """Return the DAG's documentation in Markdown: the workflow and its steps."""
    lines = [f"### {workflow.name}", workflow.description or "", ""]
    for step in steps:
        about = f": {step.description}" if step.description else ""
        lines.append(f"{step.index}. **{step.name}** ({step.package.name} {step.package.version}){about}")
    return "\n".join(lines)


def _load(workflow: WorkflowSource, relative_to: Path) -> Workflow:
    if isinstance(workflow, (str, Path)):
        return load_workflow(relative_to.parent / workflow)
    if isinstance(workflow, (Workflow, Mapping)):
        return workflow if isinstance(workflow, Workflow) else load_workflow(workflow)
    raise WorkflowError(f"workflow: must be a file or a workflow's content, not {workflow!r:.80}")


def _callers_file() -> Path:
    """Return the DAG author's file: the first one on the stack that is not this one."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back:
        frame = frame.f_back
    return Path(frame.f_code.co_filename)
