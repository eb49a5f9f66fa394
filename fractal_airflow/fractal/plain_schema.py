"""JSON schemas made plain: references filled in, and nothing left but what checks a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

JsonSchema = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_MOST_NODES = 3000
_DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
_DRAFT_7 = "http://json-schema.org/draft-07/schema#"


class NoSchemaError(ValueError):
    """What should be a schema is none, refers to what is not there, or is too large to be written out."""


def plain_schema(schema: object, root: Mapping[str, Any]) -> JsonSchema:
    """
    Return a schema that stands alone and allows the same values.

    Only a schema that contains itself keeps references, to ``$defs`` of its own.

    :param schema: a part of the root schema.
    :param root: what the references in it refer to.
    :raises NoSchemaError: where it is not a schema.
    """
    writer = _Writer(root)
    plain = writer.write(schema)
    defs = writer.definitions()
    return {**plain, "$defs": defs} if defs else plain


def types_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types that the values of a plain schema may have."""
    found = _types(schema, schema.get("$defs", {}), frozenset())
    if "number" in found:
        found -= {"integer"}
    return tuple(name for name in TYPES if name in found)


def _types(schema: Mapping[str, Any], defs: Mapping[str, Any], seen: frozenset[str]) -> set[str]:
    found = set(TYPES)
    if "type" in schema:
        named = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
        found = named | {"integer"} if "number" in named else named
    if "enum" in schema:
        found &= set().union(*(_types_of_value(value) for value in schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            found &= set().union(*(_types(each, defs, seen) for each in schema[key]))
    for each in schema.get("allOf", ()):
        found &= _types(each, defs, seen)
    ref = schema.get("$ref")
    if ref and ref not in seen:
        found &= _types(defs[ref.rpartition("/")[2]], defs, seen | {ref})
    return found


def _types_of_value(value: object) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, (int, float)):
        return {"number", "integer"} if isinstance(value, int) or value.is_integer() else {"number"}
    if isinstance(value, str):
        return {"string"}
    return {"null" if value is None else "array" if isinstance(value, list) else "object"}


def is_json(value: object) -> bool:
    """Tell whether a value can be written as JSON, and read again as what it was: infinity cannot."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def dialect_of(schema: Mapping[str, Any]) -> str:
    """Return the ``$schema`` of a plain schema: the one whose own rules are checked fastest."""
    text = json.dumps(schema)
    return _DRAFT_2020 if any(f'"{keyword}"' in text for keyword in _NEW_KEYWORDS) else _DRAFT_7


class _Writer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012

        self._resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
        self._names: dict[str, str] = {}
        """What the references that stay are called, by where they led."""
        self._inside: list[str] = []
        self._nodes = 0

    def definitions(self) -> dict[str, JsonSchema]:
        """Return what the references that stay lead to."""
        written: dict[str, JsonSchema] = {}
        while left := [ref for ref, name in self._names.items() if name not in written]:
            self._inside = left[:1]
            written[self._names[left[0]]] = self.write(self._target(left[0]))
        return written

    def write(self, schema: object) -> JsonSchema:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise NoSchemaError("too large")
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            raise NoSchemaError(f"{schema!r:.50} is no schema")
        if isinstance(schema.get("items"), list):  # a tuple, as it was written before draft 2020-12
            rest = schema.get("additionalItems", True)
            schema = {**schema, "prefixItems": schema["items"], "items": rest}
        own = {key: self._value(key, value) for key, value in schema.items() if key in _KEYWORDS}
        if "const" in own:
            own.setdefault("enum", [own.pop("const")])
        parts = own.pop("allOf", [])
        if "$ref" in schema:
            parts = [self._referred(schema["$ref"]), *parts]
        return _all_of([part for part in [*parts, own] if part])

    def _value(self, key: str, value: Any) -> Any:
        kind = _KEYWORDS[key]
        if kind == "schema":
            return value if isinstance(value, bool) else self.write(value)
        if kind == "schemas" and isinstance(value, list) and value:
            return [self.write(each) for each in value]
        if kind == "named schemas" and isinstance(value, dict):
            return {name: self.write(each) for name, each in value.items()}
        if key == "enum" and isinstance(value, list):
            value = [each for each in value if is_json(each)]
        if callable(kind) and kind(value):
            return value
        raise NoSchemaError(f"{key} cannot be {value!r:.50}")

    def _referred(self, ref: object) -> JsonSchema:
        if not isinstance(ref, str):
            raise NoSchemaError(f"$ref cannot be {ref!r:.50}")
        if ref in self._inside:
            name = re.sub(r"\W+", "_", ref.rpartition("/")[2]) or "root"
            taken = {each for known, each in self._names.items() if known != ref}
            while name in taken:
                name += "_"
            self._names[ref] = name
            return {"$ref": f"#/$defs/{name}"}
        self._inside.append(ref)
        try:
            return self.write(self._target(ref))
        finally:
            self._inside.pop()

    def _target(self, ref: str) -> object:
        from referencing.exceptions import Unresolvable

        try:
            return self._resolver.lookup(ref).contents
        except (Unresolvable, ValueError) as error:
            raise NoSchemaError(f"there is no {ref}") from error


def _all_of(parts: list[JsonSchema]) -> JsonSchema:
    """Return what allows only what all parts allow; one flat schema, where that is the same."""
    if len(parts) < 2:
        return parts[0] if parts else {}
    keys = [key for part in parts for key in part]
    if len(set(keys)) == len(keys) and set(keys) <= _INDEPENDENT:
        return {key: value for part in parts for key, value in part.items()}
    return {"allOf": parts}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_json(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_types(value: object) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(each in TYPES for each in names)


def _is_pattern(value: object) -> bool:
    try:
        re.compile(value)  # type: ignore[call-overload]
    except (re.error, TypeError, RecursionError, OverflowError):
        return False
    return True


_CHECKS_ON_ONE: dict[str, Callable[[Any], bool]] = {
    "type": _are_types,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "const": is_json,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "maximum": _is_number,
    "minimum": _is_number,
    "exclusiveMaximum": _is_number,
    "exclusiveMinimum": _is_number,
    "maxLength": _is_count,
    "minLength": _is_count,
    "pattern": _is_pattern,
    "maxItems": _is_count,
    "minItems": _is_count,
    "uniqueItems": lambda value: isinstance(value, bool),
    "maxProperties": _is_count,
    "minProperties": _is_count,
    "required": _are_names,
}
_KEYWORDS: dict[str, str | Callable[[Any], bool]] = {
    **_CHECKS_ON_ONE,
    **dict.fromkeys(("items", "contains", "additionalProperties", "propertyNames", "not", "if"), "schema"),
    **dict.fromkeys(("then", "else", "unevaluatedItems", "unevaluatedProperties"), "schema"),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), "schemas"),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), "named schemas"),
    "minContains": _is_count,
    "maxContains": _is_count,
    "dependentRequired": lambda value: isinstance(value, dict) and all(map(_are_names, value.values())),
}
"""The keywords that check values, and what each holds; all others are left out."""

_NEW_KEYWORDS = frozenset(
    {
        *("$ref", "prefixItems", "dependentSchemas", "dependentRequired", "minContains", "maxContains"),
        *("unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords that draft 7 does not know, or knows with another meaning."""

_INDEPENDENT = frozenset(_CHECKS_ON_ONE)
"""Keywords that mean the same, whatever stands beside them."""
