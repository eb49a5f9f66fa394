"""The arguments of a command in one run: the workflow's, and what the run's form says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

Form = Mapping[str, str]
"""The run parameter of each argument of a command."""

UNCHANGED = "unchanged_value"
"""A key of a run parameter's schema: the value with which nothing is changed. Airflow reserves ``default``."""

UNSET_BY_NULL = "unset_by_null"
"""A key of a run parameter's schema: whether null means that the argument is left out, not that it is null."""


def effective_arguments(arguments: Mapping[str, Any], form: Form | None, context: Context) -> dict[str, Any]:
    """
    Return the arguments of a command with those values that this run chose otherwise.

    A value that is the form's default changes nothing, so that a run which chooses nothing has exactly the
    workflow's arguments. Null on a field whose task takes no null leaves the argument out.

    :param arguments: what the workflow says, templates filled in.
    :param form: the run parameter of each argument; None: the run has no form.
    """
    effective = dict(arguments)
    if not form:
        return effective
    defined, chosen = context["dag"].params, context["params"]
    for name, key in form.items():
        if key not in defined:
            continue
        schema, value = defined.get_param(key).schema, chosen.get(key)
        if is_same(value, schema.get(UNCHANGED)):
            continue
        if value is None and schema.get(UNSET_BY_NULL):
            effective.pop(name, None)
        else:
            effective[name] = value
    return effective


def is_same(one: object, other: object) -> bool:
    """
    Tell whether two values are the same in JSON.

    A browser writes 1.0 as 1, so these are the same number; True is another value.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other
