"""The steps of a workflow as task groups, one after the other, and the report at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from airflow.sdk import XComArg

from fractal_airflow.argument_form import form_of
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import ResolvedTask, Workflow
from fractal_airflow.fractal.choice import parse_together
from fractal_airflow.operators.report_run import ReportOperator
from fractal_airflow.task_group import FractalTaskGroup, slug

Events = Literal["steps", "end"]
"""When a run is an event of its dataset: after every step that has changed it, or once, at its end."""

_Value = TypeVar("_Value")


def chain_steps(
    steps: Sequence[ResolvedTask],
    *,
    dataset: str | XComArg,
    zarr_dir: str | None,
    attribute_filters: Any,
    type_filters: Any,
    images: str | None,
    on_failure: str | None,
    first_task_index: Any,
    last_task_index: Any,
    resources: Sequence[str],
    together: Mapping[str, Sequence[str]] | None = None,
    arguments_form: bool = False,
    events: Events = "steps",
    **kwargs: Any,
) -> list[FractalTaskGroup]:
    """
    Make a task group for every step; each takes what the one before leaves.

    :param resources: where each step's units run.
    :param events: whether every step is an event of the dataset, or the last one for all of them.
    :param arguments_form: whether the run's parameters have the steps' arguments.
    :raises WorkflowError: where ``together`` names a task that there is not, or ``events`` is no such choice.
    """
    if events not in get_args(Events):
        raise WorkflowError(f"events: must be one of {', '.join(get_args(Events))}, not {events!r:.80}")
    groups: list[FractalTaskGroup] = []
    groups_of_images = _by_step(steps, "together", parse_together(together), [])
    start = {
        "zarr_dir": zarr_dir,
        "attribute_filters": attribute_filters,
        "run_type_filters": type_filters,
        "images": images,
        "on_failure": on_failure,
    }
    for step, resource, attributes in zip(steps, resources, groups_of_images, strict=True):
        group = FractalTaskGroup(
            step,
            group_id=f"{step.index}_{slug(step.name)}",
            dataset=groups[-1].output if groups else dataset,
            **({} if groups else start),
            together=attributes,
            form=form_of(step) if arguments_form else None,
            step_count=len(steps),
            first_task_index=first_task_index,
            last_task_index=last_task_index,
            resource=resource,
            emits_events=events == "steps" or step is steps[-1],
            ends_workflow=events == "end" and step is steps[-1],
            **kwargs,
        )
        groups.append(group)
    return groups


def add_report(workflow: Workflow, groups: Sequence[FractalTaskGroup]) -> ReportOperator:
    """Make the task that ends a workflow: it fails where a step failed, also one that the run went on after."""
    report = ReportOperator(
        task_id="report",
        steps=[group.reported for group in groups],
        workflow_name=workflow.name,
        workflow_description=workflow.description,
        doc_md="Says what became of every step, and leaves the run's provenance beside its images.",
    )
    groups[-1].merge >> report
    return report


def resource_of_steps(
    steps: Sequence[ResolvedTask], resource: str, resources: Mapping[str, str] | None
) -> list[str]:
    """Return where the units of each step run."""
    return _by_step(steps, "resources", resources, resource)


def _by_step(
    steps: Sequence[ResolvedTask], what: str, by_name: Mapping[str, _Value] | None, default: _Value
) -> list[_Value]:
    """
    Return, for each step, what is chosen for the task of its name or alias.

    :raises WorkflowError: where a task is named that is not in the workflow.
    """
    chosen = dict(by_name or {})
    unknown = sorted(set(chosen) - {name for step in steps for name in (step.name, step.task_name)})
    if unknown:
        raise WorkflowError(
            f"{what}: the workflow has no task {', '.join(map(repr, unknown))}; "
            f"its tasks are {', '.join(repr(step.name) for step in steps)}"
        )
    return [chosen.get(step.name, chosen.get(step.task_name, default)) for step in steps]
