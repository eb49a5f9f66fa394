"""The package of fake tasks, and workflows of them, without any file."""

from __future__ import annotations

from typing import Any

from fractal_airflow.fractal import ResolvedTask, TaskPackage, load_workflow, resolve_workflow
from tests.services.airflow import FAKE_TASKS, fake_task


def fake_package() -> TaskPackage:
    """The package of fake tasks."""
    return TaskPackage.from_directory(FAKE_TASKS, "/usr/bin/python3")


def workflow(*tasks: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow of fake tasks: each a name, or ``{"name", "alias"?, …}``."""
    task_list = []
    for task in tasks:
        fields = {"name": task} if isinstance(task, str) else dict(task)
        task_list.append({"task": fake_task(fields.pop("name")), **fields})
    return {"name": "Nuclei of a plate", "task_list": task_list, **more}


def step(task: str | dict[str, Any]) -> ResolvedTask:
    """The only step of a workflow of one fake task."""
    return resolve_workflow(load_workflow(workflow(task)), [fake_package()])[0]
