"""The arguments of a workflow's tasks as run parameters: the form in which a run may choose others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow.sdk import Param

from fractal_airflow.fractal import ResolvedTask
from fractal_airflow.fractal.arguments import Ignore
from fractal_airflow.fractal.form_fields import FormField, accepts, form_fields, or_null, unchecked
from fractal_airflow.fractal.manifest import HALVES, Half
from fractal_airflow.fractal.plain_schema import dialect_of, types_of
from fractal_airflow.operators.arguments import UNCHANGED, UNSET_BY_NULL, Form
from fractal_airflow.operators.templates import is_template
from fractal_airflow.task_group import slug

_HALF_TITLES: dict[Half, str] = {"non_parallel": "init", "parallel": "compute"}


def argument_params(steps: Iterable[ResolvedTask], ignore: Ignore = is_template) -> dict[str, Param]:
    """
    Return a run parameter for every argument of every step, in one section a step.

    Its default is the workflow's value, else the task's own. Add them to a DAG after its tasks: each task would
    make a copy of all that are there before.

    :param ignore: which values are templates: their author decided where they come from.
    """
    known: dict[int, list[FormField]] = {}
    params: dict[str, Param] = {}
    for step in steps:
        for half, field, title in _titled(step, known):
            arguments = _arguments(step, half)
            if not (field.name in arguments and ignore(arguments[field.name])):
                param = _param(field, arguments, title=title, section=f"{step.index}: {step.name}")
                if param is not None:
                    params[_key(step, half, field.name)] = param
    return params


def form_of(step: ResolvedTask) -> dict[str, Form]:
    """Return, for the step's commands, the run parameter of each argument."""
    properties = {half: (step.args_schema(half) or {}).get("properties") for half in HALVES}
    return {
        half: {name: _key(step, half, name) for name in (names if isinstance(names, Mapping) else ())}
        for half, names in properties.items()
    }


def _titled(step: ResolvedTask, known: dict[int, list[FormField]]) -> Iterator[tuple[Half, FormField, str]]:
    """
    Return the fields of a step with their titles, which tell its halves apart where they would be the same.

    :param known: the fields of the schemas that other steps have: a task may be in a workflow several times.
    """
    fields: dict[Half, list[FormField]] = {}
    for half in step.task.halves:
        schema = step.args_schema(half)
        fields[half] = known.get(id(schema)) or known.setdefault(id(schema), list(form_fields(schema)))
    titles = [field.title for each in fields.values() for field in each]
    for half, each in fields.items():
        for field in each:
            same = titles.count(field.title) > 1
            yield half, field, f"{field.title} ({_HALF_TITLES[half]})" if same else field.title


def _param(field: FormField, arguments: Mapping[str, Any], *, title: str, section: str) -> Param | None:
    value = arguments.get(field.name, field.default)
    schema = field.schema
    if field.name in arguments and not accepts(schema, value):
        # The workflow is right all the same: it was checked, with other means.
        schema = unchecked()
        if not accepts(schema, value):
            return None
    if value == "":
        # Airflow's form would not start a run while a required field is empty, though the text may be.
        schema = or_null(schema)
    # Airflow checks the schema itself, too, whenever a task starts: the dialect decides how long that takes.
    dialect = {"$schema": dialect_of(schema)}
    about = {"title": title, "section": section, UNCHANGED: value, UNSET_BY_NULL: not field.nullable}
    if "integer" in types_of(schema) and "enum" not in schema:
        # Airflow cannot hand a larger number to a task.
        schema = {"minimum": -(2**63), "maximum": 2**63 - 1, **schema}
    return Param(value, description=field.description, schema={**dialect, **schema, **about})


def _arguments(step: ResolvedTask, half: Half) -> Mapping[str, Any]:
    return step.args_non_parallel if half == "non_parallel" else step.args_parallel


def _key(step: ResolvedTask, half: Half, argument: str) -> str:
    # The dots keep it apart from the names that people give to run parameters.
    return f"{step.index}_{slug(step.name)}.args_{half}.{argument}"
