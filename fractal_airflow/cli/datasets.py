"""``airflow fractal dataset …``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fractal_airflow.cli.output import as_text, command, counted, print_json, print_rows
from fractal_airflow.exceptions import DatasetError
from fractal_airflow.fractal import Image, dump_image, filter_images
from fractal_airflow.fractal.images import Scalar
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
    wanted = attribute_filters(args.attribute or ())
    found = filter_images(get_dataset_store().images(args.name, args.at_version), {}, wanted)
    print_rows([dump_image(image) for image in found], _IMAGE_COLUMNS, args.output)


@command
def export(args: Any) -> None:
    """Print a dataset as Fractal's JSON."""
    print_json(get_dataset_store().export(args.name, args.at_version))


@command
def import_(args: Any) -> None:
    """Make a dataset from Fractal's JSON."""
    dataset = get_dataset_store().import_dataset(read_json(args.file))
    print(f"Dataset {dataset.name!r}: {counted(dataset.image_count, 'image')}")


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
    if args.output == "table":
        rows = [{**row, **_changes(row)} for row in rows]
    print_rows(rows, columns, args.output)


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
    if not args.yes:
        count = counted(dataset.image_count, "image")
        _ask(f"Forget dataset {args.name!r} with {count} and its history? [y/N] ")
    store.delete(args.name)
    print(f"Dataset {args.name!r} is deleted; nothing below {dataset.zarr_dir} was touched")


def attribute_filters(texts: Sequence[str]) -> dict[str, list[Scalar]]:
    """
    Return the attribute filters that ``KEY=VALUE`` texts stand for: a value is a text, or what it is as JSON.

    :raises DatasetError: for a text that is not ``KEY=VALUE``.
    """
    filters: dict[str, list[Scalar]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise DatasetError(f"--attribute {text!r}: write it as KEY=VALUE")
        values = filters.setdefault(key, [])
        values.append(value)
        try:
            parsed = json.loads(value)
        except ValueError:
            continue
        if isinstance(parsed, (bool, int, float)):
            values.append(parsed)
    return filters


def read_json(path: str) -> Any:
    """
    Read a JSON file.

    :raises DatasetError: where it cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: {error}") from error


def _ask(question: str) -> None:
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise DatasetError("Nothing was deleted: answer y, or give --yes")


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
            text = value if isinstance(value, str) else json.dumps(value)
            counts.setdefault(key, Counter())[text] += 1
    return {key: dict(counter) for key, counter in counts.items()}


def _changes(row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a changed image as ``old → new``."""
    before = row.get("before") or {}
    return {
        key: f"{as_text(before[key])} → {as_text(row[key])}"
        for key in ("origin", "attributes", "types")
        if key in before and before[key] != row[key]
    }
