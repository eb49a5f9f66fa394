"""Workflows: the file of the Fractal web client, and which part of a workflow runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.json_files import parse_model, read_json
from fractal_airflow.fractal.manifest import Half

ANY_PACKAGE = "*"
"""The package name of a task that is looked for in all packages."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TaskReference(_Model):
    """Which task of which package a workflow task is."""

    pkg_name: str = Field(min_length=1)
    version: str | None = None
    name: str = Field(min_length=1)


class WorkflowTask(_Model):
    """A task inside a workflow, as the workflow file has it."""

    meta_non_parallel: dict[str, Any] | None = None
    meta_parallel: dict[str, Any] | None = None
    args_non_parallel: dict[str, Any] | None = None
    args_parallel: dict[str, Any] | None = None
    type_filters: dict[str, bool] = {}
    alias: str | None = None
    description: str | None = None
    task: TaskReference

    @property
    def name(self) -> str:
        """What the step is called: its alias, or the task's name."""
        return self.alias or self.task.name

    def meta(self, half: Half) -> dict[str, Any]:
        """Return how a command is to run, over what the manifest says."""
        return (self.meta_non_parallel if half == "non_parallel" else self.meta_parallel) or {}

    def args(self, half: Half) -> dict[str, Any]:
        """Return the arguments of a command."""
        return (self.args_non_parallel if half == "non_parallel" else self.args_parallel) or {}

    @model_validator(mode="before")
    @classmethod
    def _read_input_filters(cls, data: Any) -> Any:
        """Older files have ``input_filters``: their types are what is ``type_filters`` now."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("type_filters", ...) is None:
            del data["type_filters"]
        if "input_filters" not in data:
            return data
        old = data.pop("input_filters") or {}
        if "type_filters" in data:
            raise ValueError("input_filters is the old name of type_filters: remove one of them")
        if not isinstance(old, dict) or set(old) - {"attributes", "types"}:
            raise ValueError('input_filters must be {"attributes": {}, "types": {…}}')
        if old.get("attributes"):
            raise ValueError("input_filters.attributes: attribute filters belong to a run: remove them")
        return {**data, "type_filters": old.get("types") or {}}


class Workflow(_Model):
    """A workflow, as its file has it."""

    name: str
    description: str | None = None
    task_list: list[WorkflowTask]
    _file: str = PrivateAttr(default="")

    @property
    def label(self) -> str:
        """The workflow's file, or else its name, for messages."""
        return self._file or f"Workflow {self.name!r}"


class WorkflowTemplate(_Model):
    """A workflow template: a workflow with a name and a version."""

    name: str
    version: int | str | None = None
    description: str | None = None
    data: Workflow


def load_workflow(source: str | os.PathLike[str] | Mapping[str, Any]) -> Workflow:
    """
    Read a workflow: a file as the Fractal web client exports it, its content, or a workflow template.

    :raises WorkflowError: naming the file and every field that is wrong.
    """
    if isinstance(source, Mapping):
        return _parse_workflow(source, "Workflow")
    path = Path(source)
    workflow = _parse_workflow(read_json(path, "workflow"), str(path))
    workflow._file = str(path)
    return workflow


def dump_workflow(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow in the form in which the Fractal web client exports and imports it."""
    return workflow.model_dump()


def workflow_of_task(
    task_name: str,
    *,
    args_non_parallel: Mapping[str, Any] | None = None,
    args_parallel: Mapping[str, Any] | None = None,
    meta_non_parallel: Mapping[str, Any] | None = None,
    meta_parallel: Mapping[str, Any] | None = None,
    type_filters: Mapping[str, bool] | None = None,
) -> Workflow:
    """
    Return a workflow of one task, which is looked for in all packages.

    :raises WorkflowError: where an argument is not what it should be.
    """
    task = {
        "meta_non_parallel": _copy(meta_non_parallel),
        "meta_parallel": _copy(meta_parallel),
        "args_non_parallel": _copy(args_non_parallel),
        "args_parallel": _copy(args_parallel),
        "type_filters": _copy(type_filters),
        "task": {"pkg_name": ANY_PACKAGE, "name": task_name},
    }
    return parse_model(Workflow, {"name": task_name, "task_list": [task]}, where=f"Task {task_name!r}")


def workflow_slice(count: int, first: object = None, last: object = None) -> range:
    """
    Return which steps of a workflow run.

    :param count: how many steps it has.
    :param first: ``first_task_index``, counted from 0; None: from the start. A text of digits will do.
    :param last: ``last_task_index``, which runs too; None: to the end.
    :raises WorkflowError: where one is out of range, or the first comes after the last.
    """
    start = _step_index("first_task_index", first, 0, count)
    end = _step_index("last_task_index", last, count - 1, count)
    if start > end:
        raise WorkflowError(f"first_task_index {start} comes after last_task_index {end}: no step would run")
    return range(start, end + 1)


def _parse_workflow(data: object, where: str) -> Workflow:
    if isinstance(data, Mapping) and "data" in data and "task_list" not in data:
        return parse_model(WorkflowTemplate, data, where=where).data
    return parse_model(Workflow, data, where=where)


def _step_index(name: str, value: object, default: int, count: int) -> int:
    if value is None or value in ("", "None"):
        return default
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        index = int(value)
    except ValueError:
        raise WorkflowError(f"{name} must be a whole number, not {value!r}") from None
    if not 0 <= index < count:
        raise WorkflowError(
            f"{name} {index} is out of range: the workflow's {count} steps are 0 to {count - 1}"
        )
    return index


def _copy(mapping: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if mapping is None else dict(mapping)
