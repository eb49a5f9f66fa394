"""``airflow fractal dataset …``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from fractal_airflow.cli.output import command, print_json, print_rows
from fractal_airflow.exceptions import DatasetError
from fractal_airflow.fractal import Image, dump_image
from fractal_airflow.hooks.dataset_store import get_dataset_store

_IMAGE_COLUMNS = ("zarr_url", "origin", "attributes", "types")


@command
def list_datasets(args: Any) -> None:
    """List all datasets."""
    rows = [_dataset_row(dataset) for dataset in get_dataset_store().list_datasets()]
    print_rows(rows, ("name", "images", "version", "updated", "zarr_dir"), args.output)


@command
def show(args: Any) -> None:
    """Show one dataset."""
    store = get_dataset_store()
    row = _dataset_row(store.get(args.name))
    images = store.images(args.name)
    row["attributes"] = _value_counts(images)
    row["types"] = dict(Counter(name for image in images for name, value in image.types.items() if value))
    if args.output == "json":
        print_json(row)
    else:
        print_rows([{"": key, "value": value} for key, value in row.items()], ("", "value"))


@command
def images(args: Any) -> None:
    """List the images of a dataset."""
    wanted: dict[str, set[str]] = {}
    for text in args.attribute or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise DatasetError(f"--attribute {text!r}: write it as KEY=VALUE")
        wanted.setdefault(key, set()).add(value)
    rows = [
        dump_image(image)
        for image in get_dataset_store().images(args.name, args.at_version)
        if all(_as_text(image.attributes.get(key)) in values for key, values in wanted.items())
    ]
    print_rows(rows, _IMAGE_COLUMNS, args.output)


@command
def export(args: Any) -> None:
    """Print a dataset as Fractal's JSON."""
    print_json(get_dataset_store().export(args.name, args.at_version))


@command
def import_(args: Any) -> None:
    """Make a dataset from Fractal's JSON."""
    dataset = get_dataset_store().import_dataset(read_json(args.file))
    print(f"Dataset {dataset.name!r}: {dataset.image_count} images")


@command
def versions(args: Any) -> None:
    """List a dataset's versions."""
    rows = [
        {
            "version": version.version,
            "when": version.created_at.isoformat(timespec="seconds"),
            "what": version.what,
            "added": version.added,
            "updated": version.updated,
            "removed": version.removed,
            "task": version.task,
            "dag_id": version.dag_id,
            "run_id": version.run_id,
        }
        for version in get_dataset_store().versions(args.name)
    ]
    columns = ("version", "when", "what", "added", "updated", "removed", "task", "run_id")
    print_rows(rows, columns, args.output)


@command
def diff(args: Any) -> None:
    """Show which images differ between two versions."""
    found = get_dataset_store().diff(args.name, args.a, args.b)
    rows = [{"change": "added", **dump_image(image)} for image in found.added]
    rows += [{"change": "removed", **dump_image(image)} for image in found.removed]
    for before, after in found.changed:
        rows.append({"change": "changed", **dump_image(after), "before": dump_image(before)})
    columns = ("change", *_IMAGE_COLUMNS)
    print_rows([{**row, **_changes(row)} for row in rows] if args.output == "table" else rows, columns, args.output)


@command
def restore(args: Any) -> None:
    """Make the image list what it was at a version."""
    version = get_dataset_store().restore(args.name, args.to_version)
    print(f"Dataset {args.name!r} is at version {version}, equal to version {args.to_version}")


@command
def delete(args: Any) -> None:
    """Forget a dataset."""
    store = get_dataset_store()
    dataset = store.get(args.name)
    question = f"Forget dataset {args.name!r} with {dataset.image_count} images and its history? [y/N] "
    if args.yes or input(question).strip().lower() in ("y", "yes"):
        store.delete(args.name)
        print(f"Dataset {args.name!r} is deleted; nothing below {dataset.zarr_dir} was touched")


def read_json(path: str) -> Any:
    """
    Read a JSON file.

    :raises DatasetError: where it cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}") from error


def _dataset_row(dataset: Any) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "images": dataset.image_count,
        "version": dataset.version,
        "created": dataset.created_at.isoformat(timespec="seconds"),
        "updated": dataset.updated_at.isoformat(timespec="seconds"),
        "zarr_dir": dataset.zarr_dir,
    }


def _value_counts(images: list[Image]) -> dict[str, dict[str, int]]:
    """Return how many images have each value of each attribute."""
    counts: dict[str, Counter[str]] = {}
    for image in images:
        for key, value in image.attributes.items():
            counts.setdefault(key, Counter())[_as_text(value)] += 1
    return {key: dict(counter) for key, counter in counts.items()}


def _changes(row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a changed image as ``old → new``."""
    before = row.get("before") or {}
    return {
        key: f"{_as_text(before[key])} → {_as_text(row[key])}"
        for key in ("origin", "attributes", "types")
        if key in before and before[key] != row[key]
    }


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
