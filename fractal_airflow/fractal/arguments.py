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

_LONGEST_MESSAGE = 200
_OF_THE_WHOLE = frozenset({"type", "required", "additionalProperties", "minItems", "maxItems"})
"""Keywords about a list or an object as a whole, to which templates inside it make no difference."""


def check_arguments(
    schema: dict[str, Any] | None,
    args: Mapping[str, Any],
    *,
    where: str,
    ignore: Ignore = lambda value: False,
) -> list[str]:
    """
    Return all that is wrong with the arguments of a command, each with its path.

    :param schema: the schema in the manifest; None: any arguments are right.
    :param args: the arguments that the workflow sets: none of those that the system sets.
    :param where: what the paths begin with, such as ``args_parallel``.
    :param ignore: which values are templates: nothing is said that depends on what they will be.
    """
    reserved = [
        f"{where}.{name}: this argument is reserved: the system sets it, so remove it"
        for name in sorted(RESERVED & set(args))
    ]
    if not schema:
        return reserved
    own = {name: value for name, value in args.items() if name not in RESERVED}
    return reserved + _check_against_schema(schema, own, where, ignore)


def _check_against_schema(
    schema: dict[str, Any], args: dict[str, Any], where: str, ignore: Ignore
) -> list[str]:
    try:
        errors = list(_validator(json.dumps(schema)).iter_errors(args))
    except Exception as error:
        # What is no schema makes the validator fail in ways of its own.
        return [f"{where}: {_schema_problem(schema) or f'the schema in the manifest fails: {error}'}"]
    errors = [error for error in errors if _is_certain(error, args, ignore)]
    # Checking the schema takes a hundred times longer than using it, so it waits until something is wrong.
    schema_problem = _schema_problem(schema) if errors else None
    if schema_problem:
        return [f"{where}: {schema_problem}"]
    reasons = [reason for error in errors for reason in _reasons(error, args, ignore)]
    return [f"{field_path([where, *reason.absolute_path])}: {_message(reason)}" for reason in reasons]


@lru_cache(maxsize=128)
def _validator(schema_text: str) -> Validator:
    from referencing import Registry

    schema = _without_reserved(json.loads(schema_text))
    # With a registry of its own, a schema that refers to another place is not fetched over the network.
    return _validator_class(schema)(schema, registry=Registry())


def _validator_class(schema: dict[str, Any]) -> type[Validator]:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def _without_reserved(schema: dict[str, Any]) -> dict[str, Any]:
    schema = dict(schema)
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in RESERVED}
    if isinstance(schema.get("required"), list):
        schema["required"] = [name for name in schema["required"] if name not in RESERVED]
    return schema


def _schema_problem(schema: dict[str, Any]) -> str | None:
    from jsonschema import SchemaError

    try:
        _validator_class(schema).check_schema(schema)
    except SchemaError as error:
        return f"the schema in the manifest is wrong at {error.json_path}: {_shortened(error.message)}"
    except Exception as error:
        return f"the schema in the manifest is no schema: {error}"
    return None


def _is_certain(error: ValidationError, args: object, ignore: Ignore) -> bool:
    """Tell whether an error stays, whatever the templates in the arguments will stand for."""
    if not ignore(args):
        return True
    if not {"then", "else"}.isdisjoint(error.absolute_schema_path):
        return False
    if not ignore(error.instance):
        return True
    if error.context:
        return all(any(_is_certain(each, args, ignore) for each in branch) for branch in _branches(error))
    return not isinstance(error.instance, str) and error.validator in _OF_THE_WHOLE


def _reasons(error: ValidationError, args: object, ignore: Ignore) -> Iterator[ValidationError]:
    """Return, for an ``anyOf`` or ``oneOf``, the errors of the branch that was meant, where that is clear."""
    branches = [[each for each in branch if _is_certain(each, args, ignore)] for branch in _branches(error)]
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
    """Tell whether a branch is for values of another type, or with another tag: it was not the one meant."""
    return (error.validator in ("type", "enum") and not error.path) or (
        error.validator == "const" and len(error.path) <= 1
    )


def _message(error: ValidationError) -> str:
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = list(_object(error.schema).get("properties", {}))
        unknown = [repr(name) for name in _object(error.instance) if name not in known]
        return f"unknown argument {', '.join(unknown)}; known are {', '.join(known) or 'none'}"
    if error.context:
        kinds = [inner for inner in error.context if _is_of_another_kind(inner)]
        each = dict.fromkeys(_shortened(inner.message) for inner in kinds or error.context)
        return f"{_shortened(repr(error.instance))} is none of what is allowed here: {'; '.join(each)}"
    if error.validator == "oneOf":
        tag = _object(_object(error.schema).get("discriminator")).get("propertyName")
        hint = f": set {tag!r}" if tag else ""
        return f"{_shortened(repr(error.instance))} fits more than one of what is allowed here{hint}"
    return _shortened(error.message)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _shortened(text: str) -> str:
    half = _LONGEST_MESSAGE // 2
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:half]} … {text[-half:]}"
