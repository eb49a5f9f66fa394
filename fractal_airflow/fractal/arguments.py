"""Arguments of tasks, against the JSON schemas in their manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fractal_airflow.fractal.json_files import field_path

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

RESERVED = frozenset({"zarr_url", "zarr_urls", "zarr_dir", "init_args"})
"""The arguments that the system sets."""

Ignore = Callable[[object], bool]
"""Tells whether a value, or something in it, is a template that is filled in when the task runs."""

_LONGEST_VALUE = 200
_OF_THE_WHOLE = frozenset({"type", "required", "additionalProperties", "minItems", "maxItems"})
"""Keywords about a list or an object as a whole: what is inside it, templates too, makes no difference to them."""


def check_arguments(
    schema: Mapping[str, Any] | None, args: Mapping[str, Any], *, where: str, ignore: Ignore | None = None
) -> list[str]:
    """
    Return all that is wrong with arguments, each with its path.

    :param schema: the schema in the manifest; None: any arguments are right.
    :param args: the arguments that the workflow sets; those that the system sets are reserved.
    :param where: what the paths begin with, such as ``args_parallel``.
    :param ignore: which values are templates: nothing is said that depends on what they will be.
    """
    problems = [
        f"{where}.{name}: is reserved, since the system sets it: remove it"
        for name in sorted(RESERVED & set(args))
    ]
    if not schema:
        return problems
    own = {name: value for name, value in args.items() if name not in RESERVED}
    try:
        validator = _validator(json.dumps(schema))
        errors = list(validator.iter_errors(own))
    except Exception as error:
        # A schema that is no schema makes the validator fail in ways of its own.
        return [
            *problems,
            f"{where}: {_schema_problem(schema) or f'the schema in the manifest fails: {error!r}'}",
        ]
    ignore = ignore or _ignore_nothing
    errors = [error for error in errors if _is_real(error, own, ignore)]
    if errors and (broken := _schema_problem(schema)):
        return [*problems, f"{where}: {broken}"]
    reasons = (reason for error in errors for reason in _reasons(error, own, ignore))
    return [*problems, *(f"{_path(where, reason)}: {_message(reason)}" for reason in reasons)]


@lru_cache(maxsize=128)
def _validator(schema_text: str) -> Validator:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = _without_reserved(json.loads(schema_text))
    # The empty registry keeps a schema that refers to another place from being fetched over the network.
    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def _without_reserved(schema: dict[str, Any]) -> dict[str, Any]:
    schema = dict(schema)
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in RESERVED}
    if isinstance(schema.get("required"), list):
        schema["required"] = [name for name in schema["required"] if name not in RESERVED]
    return schema


def _schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema; asked only where it gave errors, since it takes longer than all else."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        return f"the schema in the manifest is wrong at {error.json_path}: {_shortened(error.message)}"
    return None


def _is_real(error: ValidationError, args: object, ignore: Ignore) -> bool:
    """Tell whether an error stays, whatever the templates in the arguments will stand for."""
    if not ignore(args):
        return True
    if {"then", "else"} & set(error.absolute_schema_path):
        return False
    if not ignore(error.instance):
        return True
    if error.context:
        return all(any(_is_real(each, args, ignore) for each in branch) for branch in _branches(error))
    return not isinstance(error.instance, str) and error.validator in _OF_THE_WHOLE


def _reasons(error: ValidationError, args: object, ignore: Ignore) -> Iterator[ValidationError]:
    """Return the errors inside an ``anyOf`` or ``oneOf`` that tell the most: those of the branch that was meant."""
    branches = [[each for each in branch if _is_real(each, args, ignore)] for branch in _branches(error)]
    meant = [branch for branch in branches if not any(_is_of_another_kind(each) for each in branch)]
    if not meant:
        yield error
        return
    for each in min(meant, key=len):
        yield from _reasons(each, args, ignore)


def _branches(error: ValidationError) -> list[list[ValidationError]]:
    branches: dict[str | int, list[ValidationError]] = {}
    for each in error.context or ():
        branches.setdefault(each.schema_path[0], []).append(each)
    return list(branches.values())


def _is_of_another_kind(error: ValidationError) -> bool:
    """Tell whether a value is of another type, or another member of a union by its tag, than a branch asks for."""
    return (error.validator in ("type", "enum") and not error.path) or error.validator == "const"


def _path(where: str, error: ValidationError) -> str:
    return field_path([where, *error.absolute_path])


def _message(error: ValidationError) -> str:
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        unknown = [repr(name) for name in error.instance if name not in known]
        return f"unknown argument {', '.join(unknown)}; known are {', '.join(known) or 'none'}"
    if error.context:
        each = dict.fromkeys(_shortened(inner.message) for inner in error.context)
        return f"{_shortened(repr(error.instance))} is none of what is allowed here: {'; '.join(each)}"
    return _shortened(error.message)


def _shortened(text: str) -> str:
    half = _LONGEST_VALUE // 2
    return text if len(text) <= _LONGEST_VALUE else f"{text[:half]} … {text[-half:]}"


def _ignore_nothing(value: object) -> bool:
    return False
