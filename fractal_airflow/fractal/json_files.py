"""Reading JSON files and checking their shape, with errors that name the file and the field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from fractal_airflow.exceptions import WorkflowError

Model = TypeVar("Model", bound=BaseModel)

_MESSAGES = {"extra_forbidden": "unknown key: is it spelled right?", "missing": "is missing"}


def read_json(path: Path, what: str) -> Any:
    """
    Return what a JSON file holds.

    :param what: what the file should be, such as "workflow", for the error.
    :raises WorkflowError: where it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        raise WorkflowError(f"{path}: cannot read the {what}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"{path}: the {what} is not JSON: {error}") from error


def parse_model(model: type[Model], data: object, *, where: str) -> Model:
    """
    Return data as a model.

    :param where: the file, for the error.
    :raises WorkflowError: naming every field that is wrong.
    """
    if not isinstance(data, Mapping):
        raise WorkflowError(f"{where}: must hold a JSON object, such as {{…}}, not {data!r:.100}")
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise WorkflowError(list_problems(where, _problems(error))) from error


def list_problems(where: str, problems: Iterable[str]) -> str:
    """Return one text for all that is wrong with a file: a line each."""
    problems = list(problems)
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return f"{where}: {len(problems)} problems:" + "".join(f"\n- {problem}" for problem in problems)


def field_path(parts: Iterable[str | int]) -> str:
    """Return the path of a field, such as ``task_list[2].args_parallel.channel``."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors(include_url=False):
        message = _MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        path = field_path(item["loc"])
        problems.append(f"{path}: {message}" if path else message)
    return problems


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
