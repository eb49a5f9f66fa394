"""The tasks of a workflow: finding them in the packages, and checking what can be checked before a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.arguments import Ignore, check_arguments
from fractal_airflow.fractal.filters import step_type_filters
from fractal_airflow.fractal.json_files import list_problems
from fractal_airflow.fractal.manifest import HALVES, Half, TaskManifest
from fractal_airflow.fractal.meta import check_meta, effective_meta
from fractal_airflow.fractal.package import TaskPackage, canonical_name
from fractal_airflow.fractal.workflow import ANY_PACKAGE, TaskReference, Workflow, WorkflowTask


@dataclass(frozen=True)
class ResolvedTask:
    """
    A workflow task together with the task of the package that it is.

    :param index: its place in the workflow.
    :param name: what it is called there: its alias, or the task's name.
    :param task_key: the package's and the task's name: stays the same from version to version.
    :param type_filters: the workflow task's own.
    :param meta_non_parallel: how the non-parallel or init command is to run: manifest and workflow together.
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


def check_workflow(
    workflow: Workflow, packages: Sequence[TaskPackage], *, ignore: Ignore = lambda value: False
) -> list[str]:
    """
    Return all that is wrong with a workflow and its arguments.

    :param ignore: which values are templates that are filled in when the task runs.
    """
    return _resolve(workflow, packages, ignore)[1]


def resolve_workflow(
    workflow: Workflow, packages: Sequence[TaskPackage], *, ignore: Ignore = lambda value: False
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
        # As the form of the run calls the step: tasks of one name may be in a workflow several times.
        raise WorkflowError(list_problems(f"{step.index}: {step.name}", problems))


def _resolve(
    workflow: Workflow, packages: Sequence[TaskPackage], ignore: Ignore
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
        places = _listed(f"{_full_name(each)} ({each.directory})" for each in offering)
        raise WorkflowError(
            f"task {reference.name!r} is in {places}: name the version, or leave packages out"
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
    # A package that was never installed has no version to compare: it will do where no other fits better.
    found = found or [package for package in packages if package.version is None]
    if not found:
        raise WorkflowError(
            f"version {reference.version} of {reference.pkg_name!r} is not loaded; "
            f"there are: {_listed(map(_full_name, packages))}"
        )
    return found


def _check_task(task: WorkflowTask, manifest: TaskManifest, ignore: Ignore) -> Iterable[str]:
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


def _full_name(package: TaskPackage) -> str:
    return f"{package.name} {package.version}" if package.version else package.name


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"
