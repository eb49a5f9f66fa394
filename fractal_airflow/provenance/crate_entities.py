"""The entities of a crate, which others refer to by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fractal_airflow.provenance.crate_values import entity_id

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate


def add_entity(crate: ROCrate, identifier: str, kind: str, properties: Mapping[str, Any]) -> Entity:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **_plain(properties)}))


def add_file(
    crate: ROCrate,
    file_name: str,
    encoding_format: str,
    *,
    types: Iterable[str] = ("File",),
    **properties: Any,
) -> Entity:
    from rocrate.model.file import File

    properties = {"@type": list(types), "encodingFormat": encoding_format, **properties}
    if len(properties["@type"]) == 1:
        (properties["@type"],) = properties["@type"]
    return crate.add(File(crate, None, file_name, properties=_plain(properties)))


def add_software(crate: ROCrate, name: str, version: str | None) -> Entity:
    identifier = entity_id("software", name, version or "")
    return crate.dereference(identifier) or add_entity(
        crate, identifier, "SoftwareApplication", {"name": name, "softwareVersion": version or "unknown"}
    )


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties with references in the place of entities."""
    return {name: _reference(value) for name, value in properties.items()}


def _reference(value: Any) -> Any:
    if isinstance(value, list):
        return [_reference(each) for each in value]
    return {"@id": value.id} if hasattr(value, "id") else value


def how_it_went(
    done: bool, error: str | None, started_at: datetime | None, ended_at: datetime | None
) -> dict[str, Any]:
    end = "Completed" if done else "Failed"
    return {
        "actionStatus": f"http://schema.org/{end}ActionStatus",
        **({"error": error or "failed"} if not done else {}),
        **({"startTime": iso_time(started_at)} if started_at else {}),
        **({"endTime": iso_time(ended_at)} if ended_at else {}),
    }


def iso_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
