"""The fields of a form for a command's arguments: each a small JSON schema, from the one in the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fractal_airflow.fractal.arguments import RESERVED
from fractal_airflow.fractal.plain_schema import (
    TYPES,
    JsonSchema,
    NoSchemaError,
    is_json,
    plain_schema,
    types_of,
)

_NULL: JsonSchema = {"type": "null"}
_FORMATS = frozenset({"multiline", "password", "date", "date-time", "time"})
"""What a form has an input of its own for; any other format is checked by the task."""

_NO_DESCRIPTION = "Missing description"
"""What Fractal's tools write into the manifest for an argument that its author says nothing of."""

_OF_ANY_TYPE = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "$ref"})
"""Keywords that say something of null, too."""


@dataclass(frozen=True)
class FormField:
    """
    One argument of a command, as a form asks for it.

    :param name: the argument.
    :param title: what people call it.
    :param schema: what is allowed. Null always is, where the argument may be left out.
    :param default: what the task takes where nothing is said; None where that is not known.
    :param nullable: whether the task itself takes null.
    """

    name: str
    title: str
    description: str | None
    schema: JsonSchema = field(repr=False)
    default: Any
    nullable: bool


def form_fields(args_schema: JsonSchema | None) -> Iterator[FormField]:
    """Return the fields of a command's arguments, in order, without those that the system sets."""
    properties = (args_schema or {}).get("properties")
    if not args_schema or not isinstance(properties, dict):
        return
    required = args_schema.get("required")
    for name, schema in properties.items():
        if name not in RESERVED and schema is not False:
            yield _form_field(name, schema, args_schema, isinstance(required, list) and name in required)


def accepts(schema: JsonSchema, value: object) -> bool:
    """Tell whether a field takes a value, and a form can hand it on as it is."""
    from jsonschema import Draft202012Validator, FormatChecker

    return is_json(value) and Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(value)


def unchecked() -> JsonSchema:
    """Return the schema of a field for any JSON; what is in it is checked when the step starts."""
    return _for_people({}, nullable=True)


def _form_field(name: str, schema: object, root: JsonSchema, required: bool) -> FormField:
    notes = schema if isinstance(schema, dict) else {}
    try:
        plain = _flat(plain_schema(schema, root))
    except (NoSchemaError, RecursionError):
        plain = {}
    nullable = "null" in types_of(plain)
    if not (required or nullable):
        plain = or_null(plain)
    plain = _for_people(plain, nullable, notes.get("format"))
    title, description, default = (notes.get(each) for each in ("title", "description", "default"))
    return FormField(
        name,
        title if isinstance(title, str) and title else name.replace("_", " ").title(),
        description if isinstance(description, str) and description != _NO_DESCRIPTION else None,
        plain,
        # A default that breaks its own schema is nothing that a form could offer.
        default if accepts(plain, default) else None,
        nullable,
    )


def _flat(schema: JsonSchema) -> JsonSchema:
    """Write ``anyOf`` something or null as one schema, so that the form shows a field for the something."""
    branches = schema.get("anyOf", [])
    others = [each for each in branches if each != _NULL]
    if set(schema) - {"$defs"} == {"anyOf"} and len(others) == 1:
        defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
        return {**(others[0] if len(branches) == 1 else or_null(others[0])), **defs}
    return schema


def or_null(schema: JsonSchema) -> JsonSchema:
    """Allow null besides what a schema allows."""
    if "null" in types_of(schema):
        return schema
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    own = {key: value for key, value in schema.items() if key != "$defs"}
    if not _OF_ANY_TYPE.isdisjoint(own):
        branches = own["anyOf"] if set(own) == {"anyOf"} else [own]
        return {"anyOf": [*branches, _NULL], **defs}
    if "enum" in own:
        own["enum"] = [*own["enum"], None]
    if "type" in own:
        own["type"] = [*([own["type"]] if isinstance(own["type"], str) else own["type"]), "null"]
    return {**own, **defs}


def _as_object(schema: JsonSchema | bool) -> JsonSchema:
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return schema


def _for_people(schema: JsonSchema, nullable: bool, format_: object = None) -> JsonSchema:
    """
    Add what makes the form of Airflow show the right input: the type, always, and choices.

    :param nullable: whether the task takes null; else it means here that nothing is said.
    """
    types = types_of(schema)
    if not types:
        return unchecked()
    shown = dict(schema)
    if "enum" in schema:
        # The form has a list of choices for these types, where they come first.
        types = tuple(sorted(types, key=lambda each: each not in ("string", "number", "integer")))
        if None in schema["enum"]:
            shown["values_display"] = {"null": "none" if nullable else "not set"}
    shown["type"] = types[0] if len(types) == 1 else list(types)
    if set(types) <= {"array", "null"}:
        items = _as_object(schema.get("items", True))
        choices = items.get("enum", [])
        if choices and all(isinstance(each, str) for each in choices):
            shown["examples"] = choices
        elif items.get("type") != "string":
            # With no type of its own, an item would be taken for a line of text.
            shown["items"] = {**items, "type": items.get("type") or list(types_of(items) or TYPES)}
    if set(types) <= {"string", "null"} and isinstance(format_, str) and format_ in _FORMATS:
        shown["format"] = format_
    return shown
