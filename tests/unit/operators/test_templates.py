from __future__ import annotations

from typing import Any

import jinja2
import pytest
from airflow.sdk import XComArg

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.operators.templates import evaluate, from_json, is_template, whole_expression


class TestIsTemplate:
    @pytest.mark.parametrize(
        "value",
        ["{{ x }}", "a {{ x }} b", "{% if x %}", ["a", "{{ x }}"], {"a": {"b": ["{{ x }}"]}}, ("{{ x }}",)],
    )
    def test_a_template_is_found_however_deep(self, value: object) -> None:
        assert is_template(value)

    @pytest.mark.parametrize("value", ["plain", "{plate_name}_mip", "{ {x} }", 3, None, [], {"{{ key }}": 1}])
    def test_all_else_is_none(self, value: object) -> None:
        assert not is_template(value)

    def test_the_output_of_a_task_is_filled_in_too(self) -> None:
        from airflow.sdk import DAG, BaseOperator

        with DAG("d"):
            output: XComArg = BaseOperator(task_id="t").output

        assert is_template({"wells": [output]})


class TestWholeExpression:
    @pytest.mark.parametrize("text", ["{{ params.x }}", "{{params.x}}", "  {{\n params.x }}\n"])
    def test_a_text_that_is_one_expression(self, text: str) -> None:
        assert (whole_expression(text) or "").strip() == "params.x"

    @pytest.mark.parametrize(
        "text", ["a {{ x }}", "{{ x }} b", "{{ x }}{{ y }}", "{% if x %}1{% endif %}", "x"]
    )
    def test_a_text_that_is_more_or_less_than_that(self, text: str) -> None:
        assert whole_expression(text) is None


class TestEvaluate:
    @pytest.mark.parametrize(
        "value", [1, 1.5, True, None, "a", "{{ 6 * 7 }}", [1, "a"], {"a": [True, {"b": None}]}]
    )
    def test_values_keep_their_types(self, value: Any) -> None:
        result = evaluate("x", {"x": value}, jinja2.Environment())

        assert repr(result) == repr(value)

    def test_what_json_lacks_becomes_what_is_nearest(self) -> None:
        class Folder:
            def __str__(self) -> str:
                return "/data"

        assert evaluate("x", {"x": (1, Folder())}, jinja2.Environment()) == [1, "/data"]
        assert evaluate("x", {"x": {1: "a"}}, jinja2.Environment()) == {"1": "a"}

    def test_expressions_compute(self) -> None:
        assert evaluate(" x.n + 1 ", {"x": {"n": 2}}, jinja2.Environment()) == 3

    @pytest.mark.parametrize("expression", ["y", "x.y"])
    def test_a_name_that_stands_for_nothing_is_an_error_with_the_template(self, expression: str) -> None:
        with pytest.raises(WorkflowError, match=r"The template \{\{" + expression):
            evaluate(expression, {"x": {}}, jinja2.Environment())


class TestFromJson:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ('{"well": ["B03"]}', {"well": ["B03"]}),
            ({"a": True}, {"a": True}),
            ("", None),
            (" ", None),
            (None, None),
        ],
    )
    def test_text_is_read_and_the_rest_left_alone(self, value: object, expected: object) -> None:
        assert from_json(value) == expected

    def test_other_text_is_an_error_that_shows_it(self) -> None:
        with pytest.raises(WorkflowError, match=r"'\{well' are neither an object nor JSON text"):
            from_json("{well")
