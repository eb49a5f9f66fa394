"""``airflow fractal workflow …`` and ``airflow fractal package …``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fractal_airflow.cli.output import command, counted, print_error, print_rows
from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.fractal import TaskPackage, check_workflow, load_workflow
from fractal_airflow.operators.templates import is_template

T = TypeVar("T")


@command
def check(args: Any) -> None:
    """Check a workflow against its packages."""
    problems: list[str] = []
    workflows = _good_ones(lambda path: load_workflow(Path(path)), [args.workflow], problems)
    packages = _good_ones(_parse_package, args.package, problems)
    if not problems:
        problems += check_workflow(workflows[0], packages, ignore=is_template)
    for problem in problems:
        print_error(problem)
    if problems:
        sys.exit(1)
    print(f"{args.workflow}: {counted(len(workflows[0].task_list), 'task')}, nothing wrong")


@command
def show_package(args: Any) -> None:
    """List the tasks of a package."""
    package = TaskPackage.from_directory(args.package)
    rows = [
        {
            "name": task.name,
            "type": task.type,
            "input_types": task.input_types,
            "output_types": task.output_types,
            "category": task.category,
            "tags": ", ".join(task.tags),
        }
        for task in package.manifest.task_list
    ]
    if args.output == "table":
        print(f"{package.name} {package.version or '(no version)'}, run by {package.python}")
    print_rows(rows, ("name", "type", "input_types", "output_types", "category", "tags"), args.output)


def parse_packages(texts: Sequence[str]) -> list[TaskPackage]:
    """Return the packages that ``--package DIR_OR_MANIFEST[:PYTHON]`` names."""
    return [_parse_package(text) for text in texts]


def _parse_package(text: str) -> TaskPackage:
    # A folder may have a colon in its name: what exists as a whole is not split.
    path, colon, python = text.rpartition(":")
    if not colon or Path(text).exists():
        return TaskPackage.from_directory(text)
    # The shell leaves a ~ after a colon to us.
    return TaskPackage.from_directory(path, python=str(Path(python).expanduser()) if python else None)


def _good_ones(load: Callable[[str], T], texts: Sequence[str], problems: list[str]) -> list[T]:
    """Return what loads, and note what does not."""
    loaded: list[T] = []
    for text in texts:
        try:
            loaded.append(load(text))
        except FractalAirflowError as error:
            problems.append(str(error))
    return loaded
