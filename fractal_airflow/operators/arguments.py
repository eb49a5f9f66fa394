"""The arguments of a command in one run: the workflow's, and what the run's form says otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fractal_airflow.exceptions import WorkflowError

if TYPE_CHECKING:
    from airflow.sdk import Context

Form = Mapping[str, str]
"""The run parameter of each argument of a command."""

HIDDEN = "***"
"""Stands for what was typed into a password field."""

_NAME_OF_FIELD = re.compile(r"\d+_\w+\.args_(non_)?parallel\..+")

_OF_AIRFLOW = re.compile(r"\{[{%][^}]*\b(conn|var)\b")

UNCHANGED = "unchanged_value"
"""A key of a run parameter's schema: the value with which nothing is changed. Airflow reserves ``default``."""

UNSET_BY_NULL = "unset_by_null"
"""A key of a run parameter's schema: whether null means that the argument is left out, not that it is null."""

_LAST_EXACT = 2**53
"""Up to this, a browser has all whole numbers."""


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


def check_chosen(context: Context) -> None:
    """
    Refuse a run that chooses arguments which there are not: Airflow hands on whatever a run is started with.

    :raises WorkflowError: naming them.
    """
    chosen = context["dag_run"].conf or {}
    unknown = [
        name for name in chosen if _NAME_OF_FIELD.fullmatch(name) and name not in context["dag"].params
    ]
    if unknown:
        raise WorkflowError(
            f"The run was started with {', '.join(map(repr, unknown))}, and there is no such argument in its form: "
            "see the DAG's trigger form for the names, which begin with a step's number and name"
        )


def recorded_arguments(
    arguments: Mapping[str, Any], authored: Mapping[str, Any], form: Form | None, context: Context
) -> dict[str, Any]:
    """
    Return the arguments of a command as they go into the history, and into what travels with the data.

    What comes from a connection or a variable of Airflow's may be a secret: the author's template stands for
    it there. What was typed into a password field is not kept.

    :param arguments: the effective ones.
    :param authored: what the workflow says, templates as they are.
    """
    defined = context["dag"].params
    recorded = {}
    for name, value in arguments.items():
        key = (form or {}).get(name, "")
        if key in defined and defined.get_param(key).schema.get("format") == "password":
            recorded[name] = HIDDEN
        elif _OF_AIRFLOW.search(json.dumps(authored.get(name), default=str)):
            recorded[name] = authored[name]
        else:
            recorded[name] = value
    return recorded


def is_same(value: object, default: object) -> bool:
    """
    Tell whether a value is a default, perhaps as a browser has written it: 1.0 as 1, and 2**60 + 1 rounded.

    ``True`` is not 1.
    """
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return value.keys() == default.keys() and all(is_same(value[key], default[key]) for key in value)
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(value) == len(default) and all(map(is_same, value, default))
    if isinstance(default, int) and _LAST_EXACT < abs(default) < 1e308 and value != default:
        # As JavaScript writes it: the shortest digits that stand for the nearest number, then noughts.
        return value == int(Decimal(repr(float(default))))
    return value == default
