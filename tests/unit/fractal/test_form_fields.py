"""The fields of a form: each kind of argument gets the input that Airflow has for it, and its own rules."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema.validators import validator_for

from fractal_airflow.fractal.form_fields import FormField, accepts, form_fields, unchecked


def field(schema: Any, *, required: bool = False, **root: Any) -> FormField:
    """The field of an argument."""
    args_schema = {"properties": {"some_value": schema}, "required": ["some_value"] * required, **root}
    (found,) = form_fields(args_schema)
    # Airflow checks the schema of a parameter, and fails the task where it is none.
    validator_for(found.schema).check_schema(found.schema)
    return found


class TestNotes:
    def test_title_description_and_default_are_the_schemas(self) -> None:
        found = field({"type": "integer", "title": "Some value", "description": "How many", "default": 3})

        assert (found.title, found.description, found.default) == ("Some value", "How many", 3)

    def test_what_has_no_title_is_called_by_its_name(self) -> None:
        assert field({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"title": "A class"}}}).title == "Some Value"

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "integer", "default": "three"},
            {"type": "string", "default": 3},
            {"enum": ["a"], "default": "b"},
            {"type": "number", "default": float("nan")},
            {"enum": [1, float("inf")], "default": float("inf")},
            {"type": "string", "pattern": "^a$", "default": "b"},
        ],
    )
    def test_a_default_that_breaks_its_own_schema_is_left_out(self, schema: dict[str, Any]) -> None:
        assert field(schema).default is None

    def test_a_missing_description_is_none(self) -> None:
        assert field({"description": "Missing description"}).description is None

    def test_reserved_and_forbidden_arguments_have_no_field(self) -> None:
        names = ("zarr_url", "zarr_urls", "zarr_dir", "init_args", "own")

        fields = form_fields({"properties": {**{name: {"type": "string"} for name in names}, "old": False}})

        assert [each.name for each in fields] == ["own"]

    @pytest.mark.parametrize("schema", [None, {}, {"properties": []}, {"properties": {}}])
    def test_a_command_without_a_schema_has_no_fields(self, schema: Any) -> None:
        assert list(form_fields(schema)) == []


class TestNull:
    def test_what_may_be_left_out_may_be_emptied(self) -> None:
        found = field({"type": "integer", "minimum": 1})

        assert found.schema == {"type": ["integer", "null"], "minimum": 1}
        assert not found.nullable

    def test_what_is_required_may_not(self) -> None:
        assert field({"type": "integer"}, required=True).schema == {"type": "integer"}

    def test_something_or_null_is_a_field_for_something(self) -> None:
        found = field({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}, required=True)

        assert found.schema == {"type": ["string", "null"], "maxLength": 3}
        assert found.nullable

    @pytest.mark.parametrize("required", [True, False])
    def test_an_argument_of_any_kind_takes_null(self, required: bool) -> None:
        assert field({}, required=required).nullable

    @pytest.mark.parametrize("keyword", ["oneOf", "anyOf", "allOf"])
    def test_a_union_that_may_be_left_out_keeps_its_rules(self, keyword: str) -> None:
        schema = {
            keyword: [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["a", "b"]}]
        }

        found = field(schema)

        assert found.schema["type"] == ["object", "null"]
        assert accepts(found.schema, None)
        assert not accepts(found.schema, {})


class TestInputs:
    """Which input Airflow's form has for a field depends on ``type``, ``enum``, ``examples`` and ``items``."""

    @pytest.mark.parametrize("name", ["boolean", "integer", "number", "string", "object"])
    def test_a_simple_type_stands_first(self, name: str) -> None:
        assert field({"type": name}).schema["type"] == [name, "null"]
        assert field({"type": name}, required=True).schema["type"] == name

    @pytest.mark.parametrize("schema", [{"enum": ["a", "b"]}, {"enum": ["a", "b"], "type": "string"}])
    def test_choices_are_a_list_with_a_name_for_none(self, schema: dict[str, Any]) -> None:
        assert field(schema).schema == {
            "enum": ["a", "b", None],
            "type": ["string", "null"],
            "values_display": {"null": "not set"},
        }
        assert field(schema, required=True).schema == {"enum": ["a", "b"], "type": "string"}

    def test_none_among_the_choices_is_called_so(self) -> None:
        found = field({"anyOf": [{"enum": ["a"]}, {"type": "null"}]})

        assert found.schema["values_display"] == {"null": "none"}

    def test_a_single_choice_is_shown(self) -> None:
        # The form hides what has ``const``.
        assert field({"const": "a"}, required=True).schema == {"enum": ["a"], "type": "string"}

    def test_choices_of_several_types_begin_with_one_that_has_a_list(self) -> None:
        assert field({"enum": [True, 1, "a"]}).schema["type"] == ["string", "number", "boolean", "null"]

    def test_a_list_of_texts_has_a_line_each(self) -> None:
        found = field({"type": "array", "items": {"type": "string"}})

        assert found.schema == {"type": ["array", "null"], "items": {"type": "string"}}

    def test_a_list_of_choices_offers_them(self) -> None:
        found = field(
            {"type": "array", "items": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"enum": ["a", "b"]}}}
        )

        assert found.schema["examples"] == ["a", "b"]
        assert not accepts(found.schema, ["c"])

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "array"},
            {"type": "array", "items": True},
            {"type": "array", "items": {"oneOf": [{"type": "object"}, {"type": "object", "title": "B"}]}},
            {"type": "array", "items": {"enum": ["a", 1]}},
            {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
            {"type": "array", "items": [{"type": "integer"}]},
        ],
    )
    def test_any_other_list_is_json(self, schema: dict[str, Any]) -> None:
        # Where items have no type, the form takes them for lines of text.
        assert field(schema).schema["items"]["type"] not in (None, "string")

    def test_a_tuple_keeps_its_rules(self) -> None:
        found = field({"type": "array", "prefixItems": [{"type": "integer"}], "items": False})

        assert accepts(found.schema, [1])
        assert not accepts(found.schema, ["a"])
        assert not accepts(found.schema, [1, 2])

    def test_a_union_of_objects_is_one_json_field(self) -> None:
        found = field(
            {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]}
        )

        assert found.schema["type"] == ["object", "null"]

    def test_several_types_are_one_field_for_all(self) -> None:
        assert field({"anyOf": [{"type": "integer"}, {"type": "string"}]}).schema["type"] == [
            "string",
            "integer",
            "null",
        ]

    @pytest.mark.parametrize(
        ("format_", "shown"), [("multiline", True), ("date-time", True), ("path", False)]
    )
    def test_a_format_is_kept_where_there_is_an_input_for_it(self, format_: str, shown: bool) -> None:
        assert ("format" in field({"type": "string", "format": format_}).schema) is shown


class TestOddSchemas:
    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "text"},
            {"$ref": "#/$defs/Missing"},
            {"$ref": "https://example.org/schema.json"},
            {"type": "integer", "enum": ["a"]},
            {"allOf": [{"type": "integer"}, {"type": "string"}]},
            {"minimum": "a"},
            "integer",
            None,
            3,
        ],
    )
    def test_what_nothing_can_be_told_of_is_a_field_for_any_json(self, schema: Any) -> None:
        found = field(schema, required=True)

        assert found.schema == unchecked()
        assert found.schema["type"] == ["object", "array", "string", "number", "boolean", "null"]

    def test_a_schema_within_itself_is_a_json_field_that_is_checked(self) -> None:
        tree = {"type": "object", "properties": {"parts": {"type": "array", "items": {"$ref": "#/$defs/T"}}}}

        found = field({"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}, **{"$defs": {"T": tree}})

        assert found.schema["type"] == ["object", "null"]
        assert accepts(found.schema, {"parts": [{"parts": []}]})
        assert not accepts(found.schema, {"parts": [{"parts": 3}]})

    def test_a_thousand_choices_are_choices(self) -> None:
        choices = [f"choice {number}" for number in range(1000)]

        found = field({"enum": choices, "default": "choice 7"})

        assert found.default == "choice 7"
        assert found.schema["enum"] == [*choices, None]

    def test_a_very_deep_schema_does_not_break_it(self) -> None:
        schema: dict[str, Any] = {"type": "string"}
        for _ in range(2000):
            schema = {"type": "array", "items": schema}

        assert field(schema).schema == unchecked()
