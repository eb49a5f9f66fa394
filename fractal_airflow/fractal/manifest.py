"""Manifests: what a task package says about its tasks."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.json_files import parse_model, read_json

MANIFEST_FILE = "__FRACTAL_MANIFEST__.json"

TaskType = Literal["non_parallel", "parallel", "compound", "converter_non_parallel", "converter_compound"]
Half = Literal["non_parallel", "parallel"]
HALVES: tuple[Half, Half] = get_args(Half)
"""The commands that a task may have; those of a compound task are its init and its compute half."""

_HALVES_OF_TYPE: dict[str, tuple[Half, ...]] = {
    "non_parallel": ("non_parallel",),
    "parallel": ("parallel",),
    "compound": HALVES,
    "converter_non_parallel": ("non_parallel",),
    "converter_compound": HALVES,
}
_TYPE_OF_HALVES: dict[tuple[Half, ...], TaskType] = {
    ("non_parallel",): "non_parallel",
    ("parallel",): "parallel",
    HALVES: "compound",
}
_DOCS_FILE = "file:"


class _Model(BaseModel):
    # A manifest may say more than is used here; a key with null is as good as absent.
    model_config = ConfigDict(extra="allow", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class TaskManifest(_Model):
    """
    One task of a package.

    Its commands are ``executable_…``: a path relative to the package folder, run by the package's
    interpreter. A task written by hand may give a whole ``command_…`` in its place.
    """

    name: str = Field(min_length=1)
    type: TaskType = "non_parallel"
    executable_non_parallel: str | None = None
    executable_parallel: str | None = None
    command_non_parallel: str | None = None
    command_parallel: str | None = None
    meta_non_parallel: dict[str, Any] = {}
    meta_parallel: dict[str, Any] = {}
    args_schema_non_parallel: dict[str, Any] | None = None
    args_schema_parallel: dict[str, Any] | None = None
    input_types: dict[str, bool] = {}
    output_types: dict[str, bool] = {}
    category: str = ""
    modality: str = ""
    tags: list[str] = []
    docs_info: str | None = None
    docs_link: str | None = None

    @property
    def is_converter(self) -> bool:
        """Whether the task makes images from something else: it gets none."""
        return self.type.startswith("converter")

    @property
    def halves(self) -> tuple[Half, ...]:
        """The commands that the task has."""
        return _HALVES_OF_TYPE[self.type]

    def executable(self, half: Half) -> str | None:
        """Return the path of a command's executable, relative to the package folder."""
        return self.executable_non_parallel if half == "non_parallel" else self.executable_parallel

    def command(self, half: Half) -> str | None:
        """Return the whole command that a task written by hand gives."""
        return self.command_non_parallel if half == "non_parallel" else self.command_parallel

    def meta(self, half: Half) -> dict[str, Any]:
        """Return how a command is to run."""
        return self.meta_non_parallel if half == "non_parallel" else self.meta_parallel

    def args_schema(self, half: Half) -> dict[str, Any] | None:
        """Return the JSON schema of a command's arguments."""
        return self.args_schema_non_parallel if half == "non_parallel" else self.args_schema_parallel

    @field_validator("executable_non_parallel", "executable_parallel")
    @classmethod
    def _stays_in_the_package(cls, executable: str) -> str:
        path = PurePosixPath(executable)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in executable:
            raise ValueError(f"{executable!r} must be a path relative to the package folder, and inside it")
        return executable

    @field_validator("command_non_parallel", "command_parallel")
    @classmethod
    def _is_a_command(cls, command: str) -> str:
        if not shlex.split(command):
            raise ValueError("the command is empty")
        return command

    @model_validator(mode="after")
    def _fits_its_commands(self) -> TaskManifest:
        has = tuple(half for half in HALVES if self.executable(half) or self.command(half))
        if not has:
            raise ValueError(
                f"task {self.name!r} has neither executable_non_parallel nor executable_parallel"
            )
        if "type" not in self.model_fields_set:
            self.type = _TYPE_OF_HALVES[has]
        if has != self.halves:
            raise ValueError(
                f"task {self.name!r} is of type {self.type}, which has {_executables(self.halves)}, "
                f"but it has {_executables(has)}"
            )
        for half in HALVES:
            if half in has and self.executable(half) and self.command(half):
                raise ValueError(f"task {self.name!r}: give executable_{half} or command_{half}, not both")
            for field in (f"meta_{half}", f"args_schema_{half}"):
                if half not in has and getattr(self, field):
                    raise ValueError(
                        f"task {self.name!r}: {field} must be empty, since there is no executable_{half}"
                    )
        return self


class Manifest(_Model):
    """What a task package says about its tasks."""

    manifest_version: Literal["2"]
    task_list: list[TaskManifest]
    has_args_schemas: bool = False
    args_schema_version: str | None = None

    def task(self, name: str) -> TaskManifest:
        """
        Return the task of a name.

        :raises WorkflowError: where there is none; it names those that there are.
        """
        for task in self.task_list:
            if task.name == name:
                return task
        raise WorkflowError(f"there is no task {name!r}; there are {', '.join(self.task_names)}")

    @property
    def task_names(self) -> list[str]:
        """The names of all tasks."""
        return [task.name for task in self.task_list]

    @model_validator(mode="after")
    def _tasks_fit(self) -> Manifest:
        names = self.task_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"task_list: task names must be unique; twice there: {', '.join(twice)}")
        for task in self.task_list if self.has_args_schemas else ():
            for half in task.halves:
                if task.args_schema(half) is None:
                    raise ValueError(
                        f"task {task.name!r}: has_args_schemas is true, but there is no args_schema_{half}"
                    )
        return self


def load_manifest(path: Path | str) -> Manifest:
    """
    Read a manifest file.

    :raises WorkflowError: naming the file and every field that breaks a rule.
    """
    path = Path(path)
    manifest = parse_model(Manifest, read_json(path, "manifest"), where=str(path))
    for task in manifest.task_list:
        if task.docs_info and task.docs_info.startswith(_DOCS_FILE):
            task.docs_info = _read_docs(path.parent, task.docs_info.removeprefix(_DOCS_FILE).strip())
    return manifest


def _executables(halves: Iterable[Half]) -> str:
    return " and ".join(f"executable_{half}" for half in halves)


def _read_docs(folder: Path, name: str) -> str | None:
    # Documentation is a courtesy: a task whose file was not installed is as good as one that has none.
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
        return None
    return file.read_text(encoding="utf-8", errors="replace")
