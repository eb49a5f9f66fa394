"""Models of what administrators write: a key that is unknown is an error, with those that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class CheckedModel(BaseModel):
    """A model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid")


def list_problems(error: ValidationError, model: type[CheckedModel]) -> str:
    """Return all that is wrong with a configuration, by key.

    :param model: what the configuration was checked against.
    """
    return "; ".join(_problem(item, model) for item in error.errors())


def _problem(item: Any, model: type[CheckedModel]) -> str:
    where = ".".join(map(str, item["loc"])) or "configuration"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = _model_at(model, item["loc"][:-1])
        message += f" (the valid keys: {', '.join(known.model_fields)})" if known else ""
    return f"{where}: {message}"


def _model_at(model: type[CheckedModel], loc: Sequence[int | str]) -> type[CheckedModel] | None:
    for key in loc:
        field = model.model_fields.get(str(key))
        if field is None:
            return None
        kinds = [field.annotation, *get_args(field.annotation)]
        found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, CheckedModel)]
        if not found:
            return None
        model = found[0]
    return model
