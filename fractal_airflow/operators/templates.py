"""Jinja in arguments and filters, without a change of type on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from fractal_airflow.exceptions import WorkflowError

if TYPE_CHECKING:
    import jinja2

_WHOLE_EXPRESSION = re.compile(r"\s*\{\{((?:(?!\{\{|\}\}).)*)\}\}\s*", re.DOTALL)


def is_template(value: object) -> bool:
    """Tell whether a value, or anything inside a list or dictionary, is filled in when the task runs."""
    if isinstance(value, XComArg):
        return True
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_template(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(is_template(item) for item in value)
    return False


def whole_expression(text: str) -> str | None:
    """Return the expression of a text that is nothing but ``{{ expression }}``, else None."""
    match = _WHOLE_EXPRESSION.fullmatch(text)
    return match.group(1) if match else None


def evaluate(expression: str, context: Mapping[str, Any], environment: jinja2.Environment) -> Any:
    """
    Return the object that a Jinja expression stands for, as JSON types: numbers stay numbers.

    :raises WorkflowError: where the expression names something that does not exist.
    """
    import jinja2

    try:
        value = environment.compile_expression(expression, undefined_to_none=False)(**context)
    except jinja2.TemplateError as error:
        raise WorkflowError(f"The template {{{{{expression}}}}} cannot be filled in: {error}") from error
    if isinstance(value, jinja2.Undefined):
        raise WorkflowError(f"The template {{{{{expression}}}}} stands for nothing: is the name right?")
    return _as_json_type(value)


def from_json(value: Any) -> Any:
    """
    Return filters that are given as JSON text as what the text stands for, and others as they are.

    A template that is more than one expression is filled in as text.

    :raises WorkflowError: where the text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError as error:
        raise WorkflowError(f"The filters {value!r} are neither an object nor JSON text: {error}") from error


def _as_json_type(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json_type(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_as_json_type(item) for item in value]
    return str(value)
