"""Arguments against the schemas of manifests."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from fractal_airflow.fractal.arguments import RESERVED, check_arguments
from tests.unit.fractal.packages import SEGMENT_SCHEMA

DAPI = {"channel": {"identifier": "DAPI"}}


def problems(args: dict[str, Any], schema: dict[str, Any] | None = SEGMENT_SCHEMA) -> list[str]:
    return check_arguments(schema, args, where="args_parallel")


def problems_with_templates(args: dict[str, Any], schema: dict[str, Any] = SEGMENT_SCHEMA) -> list[str]:
    return check_arguments(schema, args, where="args_parallel", ignore=lambda value: "{{" in str(value))


def object_with(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_right_arguments_have_no_problems() -> None:
    assert problems({**DAPI, "method": {"method": "Fixed", "threshold": 0.5}, "sizes": [1, 2]}) == []


def test_arguments_that_the_system_sets_need_not_be_there() -> None:
    assert "zarr_url" in SEGMENT_SCHEMA["required"]
    assert problems(DAPI) == []


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("schema", [None, SEGMENT_SCHEMA])
def test_reserved_arguments_are_refused_with_or_without_a_schema(
    name: str, schema: dict[str, Any] | None
) -> None:
    (problem,) = problems({**DAPI, name: "/data"}, schema)

    assert problem.startswith(f"args_parallel.{name}: this argument is reserved")


def test_without_a_schema_anything_goes() -> None:
    assert problems({"anything": object()}, None) == []


def test_every_problem_is_told_with_its_path() -> None:
    found = problems({"channel": {"identifier": 1, "index": "x"}, "sizes": [1, "2"], "chanel": 0})

    assert found == [
        "args_parallel: unknown argument 'chanel'; known are channel, method, sizes",
        "args_parallel.channel.identifier: 1 is not of type 'string'",
        "args_parallel.channel.index: 'x' is none of what is allowed here: "
        "'x' is not of type 'integer'; 'x' is not of type 'null'",
        "args_parallel.sizes[1]: '2' is not of type 'integer'",
    ]


def test_a_missing_argument_is_told() -> None:
    assert problems({}) == ["args_parallel: 'channel' is a required property"]


def test_in_a_union_with_a_tag_the_form_that_was_meant_tells_what_is_wrong() -> None:
    assert problems({**DAPI, "method": {"method": "Fixed", "threshold": -1}}) == [
        "args_parallel.method.threshold: -1 is less than the minimum of 0"
    ]


def test_an_unknown_tag_is_told_with_those_that_are_known() -> None:
    (problem,) = problems({**DAPI, "method": {"method": "Magic", "threshold": 1}})

    assert problem.startswith("args_parallel.method: ")
    assert problem.endswith("'Fixed' was expected; 'Otsu' was expected")


def test_a_tag_left_out_where_several_forms_fit_is_asked_for() -> None:
    (problem,) = problems({**DAPI, "method": {"threshold": 1}})

    assert (
        problem
        == "args_parallel.method: {'threshold': 1} fits more than one of what is allowed here: set 'method'"
    )


def test_a_long_value_is_shortened() -> None:
    (problem,) = problems({"channel": "x" * 100_000})

    assert len(problem) < 300
    assert problem.endswith("is not of type 'object'")


@pytest.mark.parametrize(
    "args",
    [
        {"channel": "{{ params.channel }}"},
        {"channel": {"identifier": "{{ params.channel }}", "index": "{{ params.index }}"}},
        {**DAPI, "method": {"method": "Fixed", "threshold": "{{ params.threshold }}"}},
        {**DAPI, "method": {"method": "{{ params.method }}", "threshold": 1}},
        {**DAPI, "sizes": "{{ params.sizes }}"},
        {**DAPI, "sizes": ["{{ params.size }}", 5]},
    ],
)
def test_nothing_is_said_about_what_a_template_will_stand_for(args: dict[str, Any]) -> None:
    assert problems(args) != [] or args["channel"] != DAPI["channel"]
    assert problems_with_templates(args) == []


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"chanel": "{{ params.x }}"}, "args_parallel: unknown argument 'chanel'"),
        ({"sizes": ["{{ params.x }}"]}, "args_parallel: 'channel' is a required property"),
        ({**DAPI, "sizes": ["{{ params.x }}"]}, "args_parallel.sizes: "),
        ({**DAPI, "sizes": ["{{ params.x }}", 1.5]}, "args_parallel.sizes[1]: 1.5 is not of type 'integer'"),
        ({**DAPI, "sizes": {"a": "{{ params.x }}"}}, "args_parallel.sizes: "),
        (
            {"channel": {"identifer": "{{ params.x }}"}},
            "args_parallel.channel: 'identifier' is a required property",
        ),
        ({**DAPI, "method": {"method": "Magic", "threshold": "{{ params.x }}"}}, "args_parallel.method: "),
        (
            {**DAPI, "method": {"method": "Fixed", "threshold": -1, "note": "{{ params.x }}"}},
            "args_parallel.method.threshold: -1 is less than",
        ),
    ],
)
def test_what_is_wrong_whatever_a_template_stands_for_is_told(args: dict[str, Any], problem: str) -> None:
    assert any(found.startswith(problem) for found in problems_with_templates(args))


def test_a_condition_on_a_template_is_left_open() -> None:
    schema = {
        "if": object_with(mode={"const": "a"}),
        "then": {"required": ["a"]},
        "else": {"required": ["b"]},
    }

    assert problems({"mode": "x"}, schema) == ["args_parallel: 'b' is a required property"]
    assert problems_with_templates({"mode": "{{ params.mode }}"}, schema) == []


@pytest.mark.parametrize(
    "schema",
    [
        object_with(x={"type": "number", "minimum": "0"}),
        object_with(x={"type": "strin"}),
        object_with(x={"pattern": "("}),
        {"type": "object", "properties": ["x"]},
        {"required": "xy"},
        {"$schema": {}, "type": "object"},
        {"$ref": "#"},
        {"$ref": "#/$defs/Nowhere"},
    ],
)
def test_a_schema_that_is_none_is_told_and_does_not_break_the_check(schema: dict[str, Any]) -> None:
    (problem,) = problems({"x": 1} if "pattern" not in str(schema) else {"x": "a"}, schema)

    assert problem.startswith("args_parallel: the schema in the manifest ")


def test_a_schema_is_not_fetched_over_the_network() -> None:
    (problem,) = problems({"x": 1}, object_with(x={"$ref": "http://127.0.0.1:9/schema.json"}))

    assert "http://127.0.0.1:9/schema.json" in problem
    assert "Unresolvable" in problem


def test_a_schema_may_name_its_draft() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **object_with(x={"items": [{"type": "string"}]}),
    }

    assert problems({"x": [1]}, schema) == ["args_parallel.x[0]: 1 is not of type 'string'"]


def test_the_schema_that_was_given_is_left_as_it_is() -> None:
    before = str(SEGMENT_SCHEMA)
    problems(DAPI)

    assert str(SEGMENT_SCHEMA) == before


def test_importing_the_rules_does_not_import_jsonschema() -> None:
    program = "import fractal_airflow.fractal, sys; sys.exit('jsonschema' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
