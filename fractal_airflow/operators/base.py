"""What all operators of a step share: typed templates, and no retries of what cannot succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from fractal_airflow.operators.arguments import UNCHANGED
from fractal_airflow.operators.retries import NOT_WHAT_CANNOT_SUCCEED
from fractal_airflow.operators.templates import evaluate, is_template, whole_expression

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context, RetryPolicy


class FractalOperator(BaseOperator):
    """
    Base of this package's operators.

    A templated value that is one whole ``{{ expression }}`` becomes the object that the expression stands
    for, so a number stays a number; a text without a template stays as it is, whatever the DAG says of native
    objects.
    """

    ui_color = "#e8f4f8"

    def __init__(self, *, retry_policy: RetryPolicy | None = NOT_WHAT_CANNOT_SUCCEED, **kwargs: Any) -> None:
        super().__init__(retry_policy=retry_policy, **kwargs)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Fill in one templated value; see the class."""
        if not isinstance(content, str):
            return super().render_template(content, context, jinja_env, seen_oids)
        if not is_template(content):
            return content
        expression = whole_expression(content)
        if expression is None:
            return super().render_template(content, context, jinja_env, seen_oids)
        value = evaluate(expression, context, jinja_env or self.get_template_env())
        if is_template(value) and value in _authored_defaults(context):
            return self.render_template(value, context, jinja_env, seen_oids)
        return value


def _authored_defaults(context: Context) -> list[Any]:
    # A run parameter's default may be a template: its author wrote it. What a user typed never is; and that is
    # what a field of an argument holds here, since no task has a copy of it that Airflow could fill in.
    params = [context["dag"].params.get_param(name) for name in context["dag"].params]
    return [param.value for param in params if UNCHANGED not in param.schema]
