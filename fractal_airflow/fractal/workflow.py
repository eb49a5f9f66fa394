"""Workflows: reading and writing them, and finding their tasks in the task packages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.arguments import Ignore, check_arguments
from fractal_airflow.fractal.filters import step_type_filters
from fractal_airflow.fractal.json_files import list_problems, parse_model, read_json
from fractal_airflow.fractal.manifest import HALVES, Half, TaskManifest
from fractal_airflow.fractal.meta import check_meta, effective_meta
from fractal_airflow.fractal.package import TaskPackage, canonical_name

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


@dataclass(frozen=True)
class ResolvedTask:
    """
    A workflow task together with the task of the package that it is.

    :param index: its place in the workflow.
    :param name: what it is called there: its alias, or the task's name.
    :param task_key: the package's and the task's name: stays the same from version to version.
    :param type_filters: the workflow task's own.
    :param meta_non_parallel: how the non-parallel or init command is to run, manifest and workflow taken together.
    :param meta_parallel: the same for the parallel or compute command.
    :param description: what the workflow says about it.
    :param docs_info: what the package says about it.
    """

    index: int
    name: str
    task_name: str
    task_key: str
    type: str
    package: TaskPackage
    task: TaskManifest = field(repr=False)
    input_types: dict[str, bool]
    output_types: dict[str, bool]
    type_filters: dict[str, bool]
    args_non_parallel: dict[str, Any]
    args_parallel: dict[str, Any]
    meta_non_parallel: dict[str, Any]
    meta_parallel: dict[str, Any]
    description: str | None
    docs_info: str | None = field(repr=False)
    category: str

    @property
    def is_converter(self) -> bool:
        """Whether the task gets no images."""
        return self.task.is_converter

    def command(self, half: Half) -> list[str]:
        """Return a command as an argument list."""
        return self.package.command(self.task, half)

    def args_schema(self, half: Half) -> dict[str, Any] | None:
        """Return the JSON schema of a command's arguments."""
        return self.task.args_schema(half)


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


def check_workflow(
    workflow: Workflow, packages: Sequence[TaskPackage], *, ignore: Ignore | None = None
) -> list[str]:
    """
    Return all that is wrong with a workflow and its arguments.

    :param ignore: which values are templates that are filled in when the task runs.
    """
    return _resolve(workflow, packages, ignore)[1]


def resolve_workflow(
    workflow: Workflow, packages: Sequence[TaskPackage], *, ignore: Ignore | None = None
) -> list[ResolvedTask]:
    """
    Find the tasks of a workflow in the packages.

    :param ignore: which values are templates that are filled in when the task runs.
    :raises WorkflowError: naming all that is wrong, in one message.
    """
    steps, problems = _resolve(workflow, packages, ignore)
    if problems:
        raise WorkflowError(list_problems(workflow.label, problems))
    return steps


def check_step_arguments(step: ResolvedTask, arguments: Mapping[str, Mapping[str, Any]]) -> None:
    """
    Check a step's arguments once their templates are filled in.

    :param arguments: ``{"non_parallel": …, "parallel": …}``.
    :raises WorkflowError: naming every problem.
    """
    problems = [
        problem
        for half in step.task.halves
        for problem in check_arguments(
            step.args_schema(half), arguments.get(half) or {}, where=f"args_{half}"
        )
    ]
    if problems:
        raise WorkflowError(list_problems(step.name, problems))


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


def _resolve(
    workflow: Workflow, packages: Sequence[TaskPackage], ignore: Ignore | None
) -> tuple[list[ResolvedTask], list[str]]:
    steps: list[ResolvedTask] = []
    problems: list[str] = [] if workflow.task_list else ["task_list: is empty: there is nothing to run"]
    for index, task in enumerate(workflow.task_list):
        try:
            package, manifest = _find_task(task.task, packages)
            found = list(_check_task(task, manifest, ignore))
            if not found:
                steps.append(_resolved(index, task, package, manifest))
        except WorkflowError as error:
            found = [f"task: {error}"]
        problems += [f"task_list[{index}] ({task.name}): {problem}" for problem in found]
    return steps, problems


def _find_task(reference: TaskReference, packages: Sequence[TaskPackage]) -> tuple[TaskPackage, TaskManifest]:
    candidates = _of_version(reference, _of_name(reference, packages))
    offering = [package for package in candidates if reference.name in package.manifest.task_names]
    if not offering:
        names = [name for package in candidates for name in package.manifest.task_names]
        raise WorkflowError(
            f"no task {reference.name!r} in {_listed(_full_name(each) for each in candidates)}; "
            f"there are: {_listed(names)}"
        )
    if len(offering) > 1:
        raise WorkflowError(
            f"task {reference.name!r} is in {_listed(f'{_full_name(each)} ({each.directory})' for each in offering)}: "
            "name the version, or leave out packages"
        )
    return offering[0], offering[0].manifest.task(reference.name)


def _of_name(reference: TaskReference, packages: Sequence[TaskPackage]) -> list[TaskPackage]:
    unique = {(str(each.directory), each.python, each.version): each for each in packages}.values()
    if reference.pkg_name == ANY_PACKAGE:
        return list(unique)
    wanted = canonical_name(reference.pkg_name)
    found = [package for package in unique if canonical_name(package.name) == wanted]
    if not found:
        raise WorkflowError(
            f"no package {reference.pkg_name!r} is loaded; there are: {_listed(map(_full_name, unique))}"
        )
    return found


def _of_version(reference: TaskReference, packages: list[TaskPackage]) -> list[TaskPackage]:
    if reference.version is None:
        return packages
    found = [package for package in packages if package.version == reference.version]
    # A package that was never installed has no version to compare: it will do where no other has the right one.
    found = found or [package for package in packages if package.version is None]
    if not found:
        raise WorkflowError(
            f"version {reference.version} of {reference.pkg_name!r} is not loaded; "
            f"there are: {_listed(map(_full_name, packages))}"
        )
    return found


def _check_task(task: WorkflowTask, manifest: TaskManifest, ignore: Ignore | None) -> Iterable[str]:
    for half in HALVES:
        args, meta = task.args(half), task.meta(half)
        if half in manifest.halves:
            yield from check_arguments(manifest.args_schema(half), args, where=f"args_{half}", ignore=ignore)
            yield from check_meta({**manifest.meta(half), **meta}, where=f"meta_{half}")
        elif args or meta:
            field_name = f"args_{half}" if args else f"meta_{half}"
            yield f"{field_name}: must be empty, since a task of type {manifest.type} has no such command"
    if not manifest.is_converter:
        try:
            step_type_filters({}, manifest.input_types, task.type_filters, task="type_filters")
        except WorkflowError as error:
            yield str(error)


def _resolved(index: int, task: WorkflowTask, package: TaskPackage, manifest: TaskManifest) -> ResolvedTask:
    return ResolvedTask(
        index=index,
        name=task.name,
        task_name=manifest.name,
        task_key=f"{canonical_name(package.name)}/{manifest.name}",
        type=manifest.type,
        package=package,
        task=manifest,
        input_types=manifest.input_types,
        output_types=manifest.output_types,
        type_filters=task.type_filters,
        args_non_parallel=task.args("non_parallel"),
        args_parallel=task.args("parallel"),
        meta_non_parallel=effective_meta(manifest.meta_non_parallel, task.meta_non_parallel),
        meta_parallel=effective_meta(manifest.meta_parallel, task.meta_parallel),
        description=task.description,
        docs_info=manifest.docs_info,
        category=manifest.category,
    )


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


def _full_name(package: TaskPackage) -> str:
    return f"{package.name} {package.version}" if package.version else package.name


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"


def _copy(mapping: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if mapping is None else dict(mapping)
