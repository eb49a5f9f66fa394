"""The workflow as it ran: a workflow file that can be run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fractal_airflow.provenance.facts import RunFacts, StepFacts


def workflow_as_run(run: RunFacts) -> dict[str, Any]:
    """Return the workflow in the form of the Fractal web client: the steps that ran, with what they ran with."""
    return {
        "name": run.workflow_name,
        "description": run.workflow_description,
        "task_list": [_workflow_task(step) for step in run.steps_that_ran],
    }


def _workflow_task(step: StepFacts) -> dict[str, Any]:
    arguments = step.arguments or {}
    return {
        "meta_non_parallel": _or_none(step.meta_non_parallel),
        "meta_parallel": _or_none(step.meta_parallel),
        "args_non_parallel": _or_none(arguments.get("non_parallel")),
        "args_parallel": _or_none(arguments.get("parallel")),
        "type_filters": dict(step.type_filters),
        "alias": step.name if step.name != step.task_name else None,
        "description": step.description,
        "task": {"pkg_name": step.package, "version": step.version, "name": step.task_name},
    }


def _or_none(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return dict(values) if values else None
