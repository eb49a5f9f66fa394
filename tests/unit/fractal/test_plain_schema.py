"""Plain schemas: the same values are allowed, and every reference is filled in."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from fractal_airflow.fractal.plain_schema import NoSchemaError, dialect_of, plain_schema, types_of

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    "required": ["name"],
}


def allows(schema: dict[str, Any], value: object) -> bool:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema).is_valid(value)


class TestReferences:
    def test_a_chain_of_references_is_filled_in(self) -> None:
        root = {
            "$defs": {
                "A": {"$ref": "#/$defs/B"},
                "B": {"allOf": [{"$ref": "#/definitions/C~1D"}]},
            },
            "definitions": {"C/D": {"type": "integer", "minimum": 2}},
        }

        assert plain_schema({"$ref": "#/$defs/A", "title": "a"}, root) == {"type": "integer", "minimum": 2}

    def test_what_stands_beside_a_reference_holds_too(self) -> None:
        root = {"$defs": {"Name": {"type": "string"}, "Open": {"type": "object", "properties": {"a": True}}}}

        named = plain_schema({"$ref": "#/$defs/Name", "minLength": 2}, root)
        closed = plain_schema({"$ref": "#/$defs/Open", "additionalProperties": False}, root)

        assert named == {"type": "string", "minLength": 2}
        assert not allows(closed, {"a": 1})  # as the standard has it: the two do not know of each other
        assert allows(closed, {})

    def test_a_schema_that_contains_itself_keeps_its_definitions(self) -> None:
        plain = plain_schema({"$ref": "#/$defs/Tree"}, {"$defs": {"Tree": TREE}})

        assert types_of(plain) == ("object",)
        assert allows(plain, {"name": "a", "parts": [{"name": "b", "parts": [{"name": "c"}]}]})
        assert not allows(plain, {"name": "a", "parts": [{"name": "b", "parts": [{"name": 3}]}]})

    def test_schemas_that_contain_each_other_and_are_named_alike_end(self) -> None:
        root = {
            "$defs": {"X": {"type": "array", "items": {"$ref": "#/definitions/X"}}},
            "definitions": {"X": {"type": "object", "additionalProperties": {"$ref": "#/$defs/X"}}},
        }

        plain = plain_schema({"anyOf": [{"$ref": "#/$defs/X"}, {"$ref": "#/definitions/X"}]}, root)

        assert allows(plain, [{"a": [{"b": []}]}])
        assert allows(plain, {"a": [{"b": []}]})
        assert not allows(plain, [{"a": [["b"]]}])

    def test_a_schema_that_is_nothing_but_itself_ends(self) -> None:
        plain = plain_schema({"$ref": "#/$defs/A"}, {"$defs": {"A": {"$ref": "#/$defs/A"}}})

        assert len(types_of(plain)) == 6

    @pytest.mark.parametrize("ref", ["#/$defs/Missing", "https://example.org/schema.json", "#anchor", 3])
    def test_a_reference_to_nothing_is_an_error(self, ref: Any) -> None:
        with pytest.raises(NoSchemaError):
            plain_schema({"$ref": ref}, {"$defs": {}})

    def test_what_would_grow_without_measure_is_an_error(self) -> None:
        defs: dict[str, Any] = {"D0": {"type": "string"}}
        for number in range(12):
            ten = {str(index): {"$ref": f"#/$defs/D{number}"} for index in range(10)}
            defs[f"D{number + 1}"] = {"type": "object", "properties": ten}

        with pytest.raises(NoSchemaError, match="too large"):
            plain_schema({"$ref": "#/$defs/D12"}, {"$defs": defs})


class TestKeywords:
    def test_only_what_checks_values_is_left(self) -> None:
        schema = {
            "title": "A",
            "description": "a",
            "default": {},
            "discriminator": {"propertyName": "title"},
            "format": "path",
            "type": "object",
            "properties": {"title": {"title": "T", "type": "string"}, "default": {"const": 3}},
        }

        assert plain_schema(schema, {}) == {
            "type": "object",
            "properties": {"title": {"type": "string"}, "default": {"enum": [3]}},
        }

    def test_a_choice_that_is_no_json_is_left_out(self) -> None:
        choices = ["a", float("inf"), [float("nan")], 1.5]

        assert plain_schema({"enum": choices}, {}) == {"enum": ["a", 1.5]}

    def test_an_old_tuple_is_one_of_today(self) -> None:
        old = {"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False}

        plain = plain_schema(old, {})

        assert allows(plain, [1, "a"])
        assert not allows(plain, ["a", 1])
        assert not allows(plain, [1, "a", 2])

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "text"},
            {"type": []},
            {"enum": []},
            {"minimum": "1"},
            {"pattern": "("},
            {"properties": []},
            {"anyOf": {}},
            {"anyOf": []},
            {"items": "string"},
            {"exclusiveMaximum": True},
            {"required": True},
            {"const": float("nan")},
            {"enum": [float("inf")]},
            {"maximum": float("inf")},
            "string",
            None,
        ],
    )
    def test_what_is_no_schema_is_an_error(self, schema: Any) -> None:
        with pytest.raises(NoSchemaError):
            plain_schema(schema, {})

    @pytest.mark.parametrize(("schema", "types"), [(True, 6), (False, 6)])
    def test_true_and_false_are_schemas(self, schema: bool, types: int) -> None:
        plain = plain_schema(schema, {})

        assert allows(plain, 1) is schema


class TestTypes:
    @pytest.mark.parametrize(
        ("schema", "types"),
        [
            ({"type": "integer"}, ("integer",)),
            ({"type": ["integer", "number", "null"]}, ("number", "null")),
            ({"enum": ["a", None]}, ("string", "null")),
            ({"enum": [1, 2]}, ("number",)),
            ({"enum": [1, 2], "type": "integer"}, ("integer",)),
            ({"enum": [2.0, 10**400], "type": "integer"}, ("integer",)),
            ({"enum": [float("inf"), "a"]}, ("string", "number")),
            ({"enum": [1.5, True, [], {}]}, ("object", "array", "number", "boolean")),
            ({"anyOf": [{"type": "string"}, {"oneOf": [{"type": "object"}]}]}, ("object", "string")),
            ({"allOf": [{"type": ["string", "null"]}, {"type": ["null", "array"]}]}, ("null",)),
            ({"type": "string", "enum": [1]}, ()),
        ],
    )
    def test_a_schema_tells_the_types_of_its_values(
        self, schema: dict[str, Any], types: tuple[str, ...]
    ) -> None:
        assert types_of(schema) == types


class TestDialect:
    def test_it_is_the_one_that_is_checked_fastest(self) -> None:
        assert "draft-07" in dialect_of({"type": "array", "items": {"type": "string"}})

    def test_what_draft_7_does_not_know_keeps_its_meaning(self) -> None:
        schema = {"type": "array", "prefixItems": [{"type": "integer"}]}

        checked = {"$schema": dialect_of(schema), **schema}

        assert not validator_for(checked)(checked).is_valid(["a"])
