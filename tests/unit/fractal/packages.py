"""Task packages as they lie on disk, for tests to make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SEGMENT_SCHEMA: dict[str, Any] = {
    "$defs": {
        "Channel": {
            "type": "object",
            "properties": {
                "identifier": {"type": "string"},
                "index": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
            "required": ["identifier"],
        },
        "Fixed": {
            "type": "object",
            "properties": {"method": {"const": "Fixed"}, "threshold": {"type": "number", "minimum": 0}},
            "required": ["threshold"],
        },
        "Otsu": {"type": "object", "properties": {"method": {"const": "Otsu"}}},
    },
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "zarr_url": {"type": "string"},
        "channel": {"$ref": "#/$defs/Channel"},
        "method": {
            "oneOf": [{"$ref": "#/$defs/Fixed"}, {"$ref": "#/$defs/Otsu"}],
            "discriminator": {"propertyName": "method"},
        },
        "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    },
    "required": ["zarr_url", "channel"],
}
"""Has what real schemas have: definitions, a union with a tag, nullable values, reserved arguments."""


def segment_task(**changes: Any) -> dict[str, Any]:
    """Return a parallel task as a manifest has it."""
    task = {
        "name": "Segment",
        "type": "parallel",
        "executable_parallel": "tasks/segment.py",
        "meta_parallel": {"cpus_per_task": 1, "mem": 4000},
        "args_schema_parallel": SEGMENT_SCHEMA,
    }
    return _without_dropped({**task, **changes})


def project_task(**changes: Any) -> dict[str, Any]:
    """Return a compound task as a manifest has it."""
    task = {
        "name": "Project",
        "type": "compound",
        "executable_non_parallel": "tasks/init.py",
        "executable_parallel": "tasks/compute.py",
        "input_types": {"is_3D": True},
        "output_types": {"is_3D": False},
        "args_schema_non_parallel": {"type": "object"},
        "args_schema_parallel": {"type": "object"},
    }
    return _without_dropped({**task, **changes})


def convert_task(**changes: Any) -> dict[str, Any]:
    """Return a converter as a manifest has it."""
    task = {
        "name": "Convert",
        "type": "converter_non_parallel",
        "executable_non_parallel": "tasks/convert.py",
        "args_schema_non_parallel": {"type": "object"},
    }
    return _without_dropped({**task, **changes})


def manifest_of(*tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a manifest of these tasks."""
    manifest = {"manifest_version": "2", "has_args_schemas": True, "task_list": list(tasks)}
    return _without_dropped({**manifest, **changes})


def write_manifest(folder: Path, manifest: dict[str, Any]) -> Path:
    """Write a manifest into a package's folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "__FRACTAL_MANIFEST__.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


def make_environment(folder: Path, *, python: bool = True) -> Path:
    """Make an empty Python environment, and return its ``site-packages``."""
    site = folder / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    if python:
        (folder / "bin" / "python").touch()
    return site


def install(
    site: Path, name: str, version: str, manifest: dict[str, Any] | None, *, folder: str | None = None
) -> Path:
    """Install a package into ``site-packages``, and return its folder."""
    package = site / (folder or name.replace("-", "_").lower())
    package.mkdir()
    record = [f"{package.name}/__init__.py,,"]
    if manifest is not None:
        write_manifest(package, manifest)
        record.append(f"{package.name}/__FRACTAL_MANIFEST__.json,,")
    dist_info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    dist_info.mkdir()
    (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (dist_info / "RECORD").write_text("\n".join(record))
    return package


def _without_dropped(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a test drops by setting it to ``...``."""
    return {key: value for key, value in data.items() if value is not ...}
