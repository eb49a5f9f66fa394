"""What a run's form changes in the arguments of a command, and what it leaves exactly as the workflow has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context, Param
from airflow.sdk.definitions.param import ParamsDict

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.operators.arguments import (
    UNCHANGED,
    UNSET_BY_NULL,
    check_chosen,
    effective_arguments,
    is_same,
    recorded_arguments,
)

KEY = "0_measure.args_parallel.threshold"
FORM = {"threshold": KEY}


def context(chosen: Any, default: Any, *, unset_by_null: bool = True) -> Context:
    """The context of a run in which one field of the form has a value."""
    schema = {UNCHANGED: default, UNSET_BY_NULL: unset_by_null}
    # Airflow puts the run's value into the DAG's own parameter before the task starts.
    dag = SimpleNamespace(params=ParamsDict({KEY: Param(chosen, schema=schema)}))
    return cast(Context, {"dag": dag, "params": {KEY: chosen}})


def effective(arguments: dict[str, Any], *run: Any, **options: Any) -> dict[str, Any]:
    return effective_arguments(arguments, FORM, context(*run, **options))


class TestWhatTheFormLeaves:
    def test_a_default_of_the_workflow_stays_as_it_is(self) -> None:
        arguments = {"threshold": 1.0, "other": "x"}

        found = effective(arguments, 1, 1.0)

        assert found == arguments
        assert isinstance(found["threshold"], float)

    def test_an_argument_that_nobody_sets_stays_unset(self) -> None:
        assert effective({}, 5, 5) == {}
        assert effective({}, None, None) == {}

    def test_what_is_in_no_form_stays(self) -> None:
        run = context(7, 5)

        assert effective_arguments({"threshold": 5}, None, run) == {"threshold": 5}
        assert effective_arguments({"threshold": 5}, {}, run) == {"threshold": 5}
        assert effective_arguments({"threshold": 5}, {"threshold": "0_measure.args_parallel.t"}, run) == {
            "threshold": 5
        }

    def test_the_workflows_own_arguments_are_not_changed(self) -> None:
        arguments = {"threshold": 5}

        effective(arguments, 7, 5)

        assert arguments == {"threshold": 5}


class TestWhatTheFormChanges:
    @pytest.mark.parametrize("arguments", [{}, {"threshold": 5}])
    def test_another_value_is_taken(self, arguments: dict[str, Any]) -> None:
        assert effective(arguments, 7, 5) == {"threshold": 7}

    def test_a_value_where_none_was_is_taken(self) -> None:
        assert effective({}, 0, None) == {"threshold": 0}

    def test_a_text_with_braces_is_the_text_itself(self) -> None:
        assert effective({"threshold": "x"}, "{{ params.dataset }}", "x") == {
            "threshold": "{{ params.dataset }}"
        }

    def test_null_is_a_value_where_the_task_takes_it(self) -> None:
        assert effective({"threshold": 5}, None, 5, unset_by_null=False) == {"threshold": None}

    def test_null_leaves_the_argument_out_where_the_task_takes_none(self) -> None:
        assert effective({"threshold": 5, "other": 1}, None, 5) == {"other": 1}
        assert effective({}, None, 5) == {}


class TestSameness:
    @pytest.mark.parametrize(
        ("value", "default"),
        [
            (1, 1.0),
            (1.0, 1),
            ({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2.0}]}),
            (1152921504606847000, 2**60 + 1),
            (-9007199254740992, -(2**53) - 1),
            (None, None),
            ("", ""),
        ],
    )
    def test_these_are_one_value(self, value: Any, default: Any) -> None:
        assert is_same(value, default)

    @pytest.mark.parametrize(
        ("value", "default"),
        [
            (True, 1),
            (1, True),
            (0, False),
            (None, False),
            (None, ""),
            ([], None),
            ({}, None),
            ([1, True], [1, 1]),
            ({"a": 1}, {"a": 1, "b": None}),
            ({"a": 1}, {"b": 1}),
            ([1], [1, 2]),
            ("1", 1),
            ([1], {"0": 1}),
            (2**60 + 2, 2**60 + 1),
            (2**60, None),
            (1, 10**400),
        ],
    )
    def test_these_are_different_values(self, value: Any, default: Any) -> None:
        assert not is_same(value, default)


class TestWhatIsRecorded:
    """What goes into the history and beside the images is no place for secrets."""

    def test_arguments_are_recorded_as_they_are(self) -> None:
        arguments = {"threshold": 5, "note": "{ conn }"}

        assert recorded_arguments(arguments, {"note": "{ conn }"}, FORM, context(5, 5)) == arguments

    @pytest.mark.parametrize(
        "template",
        ["{{ conn.portal.password }}", "a {{ var.value.token }} b", {"deep": ["{{ var.json.x }}"]}],
    )
    def test_what_comes_from_a_connection_or_variable_is_recorded_as_its_template(
        self, template: Any
    ) -> None:
        found = recorded_arguments({"key": "s3cret"}, {"key": template}, None, context(5, 5))

        assert found == {"key": template}

    def test_another_template_is_recorded_as_what_it_stands_for(self) -> None:
        found = recorded_arguments({"day": "Monday"}, {"day": "{{ ds }}"}, None, context(5, 5))

        assert found == {"day": "Monday"}

    def test_a_password_is_not_kept(self) -> None:
        run = context("s3cret", None)
        run["dag"].params.get_param(KEY).schema["format"] = "password"

        assert recorded_arguments({"threshold": "s3cret"}, {}, FORM, run) == {"threshold": "***"}


class TestUnknownArguments:
    """Airflow hands on whatever a run is started with."""

    def test_a_field_that_there_is_not_is_refused_by_name(self) -> None:
        run = context(5, 5)
        run["dag_run"] = cast(Any, SimpleNamespace(conf={KEY: 5, "0_measure.args_parallel.treshold": 5}))

        with pytest.raises(WorkflowError, match=r"'0_measure\.args_parallel\.treshold'"):
            check_chosen(run)

    def test_what_else_a_run_is_given_is_left_alone(self) -> None:
        run = context(5, 5)
        run["dag_run"] = cast(Any, SimpleNamespace(conf={KEY: 5, "raw_plate": "/raw", "a.b.c": 1}))

        check_chosen(run)
