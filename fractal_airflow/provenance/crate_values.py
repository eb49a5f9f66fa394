"""The parameters of a crate: what a workflow or a task can be told, and what it was told in this run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate


def entity_id(*parts: str) -> str:
    """Return the id of an entity that is no file, whatever is in its parts."""
    return "#" + "/".join(quote(part, safe="") for part in parts)


class Parameters:
    """Adds parameters and their values to a crate."""

    def __init__(self, crate: ROCrate) -> None:
        self._crate = crate

    def add(
        self, owner: Entity, of: tuple[str, ...], where: tuple[str, ...], name: str, value: Any
    ) -> Entity:
        """
        Add a value; and its parameter, if that is new.

        :param owner: the workflow or the task that has the parameter.
        :param of: what tells the parameter from others of that name.
        :param where: what tells the value from others of that parameter.
        """
        from rocrate.model.contextentity import ContextEntity

        parameter_id = entity_id("parameter", owner.id, *of, name)
        parameter = self._crate.dereference(parameter_id)
        if parameter is None:
            properties: dict[str, Any] = {
                "@type": "FormalParameter",
                "name": name,
                "additionalType": kind_of(value),
            }
            parameter = self._crate.add(ContextEntity(self._crate, parameter_id, properties=properties))
            owner.append_to("input", parameter)
        properties = {
            "@type": "PropertyValue",
            "name": name,
            "value": plain_value(value),
            "exampleOfWork": {"@id": parameter_id},
        }
        value_id = entity_id("value", *where, name)
        entity = self._crate.add(ContextEntity(self._crate, value_id, properties=properties))
        parameter.append_to("workExample", entity)
        return entity


def kind_of(value: Any) -> str:
    """Return what schema.org calls the kind of a value."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    return "Float" if isinstance(value, float) else "Text"


def plain_value(value: Any) -> Any:
    """Return a value as a crate may have it: what is no scalar as JSON text."""
    if isinstance(value, str | bool | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)
