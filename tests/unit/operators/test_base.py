from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, RetryAction

from fractal_airflow.exceptions import (
    DatasetStoreError,
    EmptyImageListError,
    FractalAirflowError,
    ImageListError,
    JobExecutionError,
    ResourceError,
    TaskExecutionError,
    TaskOutputValidationError,
    WorkflowError,
)
from fractal_airflow.operators.base import NOT_WHAT_CANNOT_SUCCEED, FractalOperator
from fractal_airflow.operators.retries import ONLY_THE_STORE


def rendered(
    content: Any, native: bool = False, defaults: dict[str, Any] | None = None, **params: Any
) -> Any:
    """What an operator makes of a templated value, in a run with these parameters."""
    with DAG("d", params=defaults or {}, render_template_as_native_obj=native) as dag:
        operator = FractalOperator(task_id="t")
    context: Any = {"dag": dag, "params": {**(defaults or {}), **params}, "ds": "2026-01-01"}
    return operator.render_template(content, context, dag.get_template_env())


class TestTemplates:
    @pytest.mark.parametrize("native", [False, True])
    def test_a_whole_expression_keeps_its_type(self, native: bool) -> None:
        arguments = {"n": "{{ params.n }}", "list": ["{{ params.list }}"], "text": "{{ params.text }}"}

        assert rendered(arguments, native, n=3, list=[1, 2], text="1") == {
            "n": 3,
            "list": [[1, 2]],
            "text": "1",
        }

    def test_more_than_an_expression_becomes_text(self) -> None:
        assert rendered("{{ params.n }} px on {{ ds }}", n=3) == "3 px on 2026-01-01"

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize("value", ["1", "None", "{plate}_mip", "[1]", 1, None, True, "a\n"])
    def test_what_is_no_template_stays_as_it_is(self, native: bool, value: Any) -> None:
        assert repr(rendered(value, native)) == repr(value)

    def test_what_a_user_typed_is_not_evaluated(self) -> None:
        assert rendered("{{ params.x }}", defaults={"x": "{{ ds }}"}, x="{{ 6 * 7 }}") == "{{ 6 * 7 }}"

    def test_what_the_author_wrote_as_a_default_is(self) -> None:
        assert rendered("{{ params.x }}", defaults={"x": "{{ ds }}"}) == "2026-01-01"
        assert rendered("{{ params.x }}", defaults={"x": {"day": ["{{ ds }}"]}}) == {"day": ["2026-01-01"]}


class TestRetries:
    """What cannot succeed by trying again fails at once."""

    def action(self, policy: Any, error: type[FractalAirflowError]) -> RetryAction:
        decision = policy.evaluate(error("x"), 1, 3)
        return RetryAction.DEFAULT if decision is None else decision.action

    @pytest.mark.parametrize(
        "error",
        [WorkflowError, ImageListError, EmptyImageListError, TaskOutputValidationError, ResourceError],
    )
    def test_some_errors_are_final(self, error: type[FractalAirflowError]) -> None:
        assert self.action(NOT_WHAT_CANNOT_SUCCEED, error) == RetryAction.FAIL

    @pytest.mark.parametrize("error", [TaskExecutionError, JobExecutionError, DatasetStoreError])
    def test_others_are_tried_again(self, error: type[FractalAirflowError]) -> None:
        assert self.action(NOT_WHAT_CANNOT_SUCCEED, error) == RetryAction.DEFAULT

    def test_a_merge_is_tried_again_only_where_the_store_failed(self) -> None:
        assert self.action(ONLY_THE_STORE, DatasetStoreError) == RetryAction.DEFAULT
        assert self.action(ONLY_THE_STORE, TaskExecutionError) == RetryAction.FAIL

    def test_an_author_may_decide_otherwise(self) -> None:
        operator = FractalOperator(task_id="t", retry_policy=None, retries=2, retry_delay=timedelta(0))

        assert operator.retry_policy is None
