"""What the demo prints at its end: the image list, the nuclei of each well, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def image_table(dataset: dict[str, Any]) -> Table:
    """Return the image list of a dataset export, with paths relative to its ``zarr_dir``."""
    table = Table(title=f"{len(dataset['images'])} images of dataset {dataset['name']}", title_justify="left")
    for column in ("zarr_url", "origin", "attributes", "types"):
        table.add_column(column, overflow="fold")
    below = len(dataset["zarr_dir"]) + 1
    for image in dataset["images"]:
        origin = image["origin"][below:] if image["origin"] else "-"
        table.add_row(image["zarr_url"][below:], origin, _pairs(image["attributes"]), _pairs(image["types"]))
    return table


def nuclei_table(nuclei: dict[str, int]) -> Table:
    """Return the number of nuclei of each well, laid out as on the plate."""
    columns = sorted({well[1:] for well in nuclei})
    table = Table(title=f"{sum(nuclei.values())} nuclei", title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in sorted({well[0] for well in nuclei}):
        table.add_row(row, *(str(nuclei.get(row + column, "")) for column in columns))
    return table


def places_table(places: Mapping[str, object]) -> Table:
    """Return where everything lies."""
    table = Table(title="Where everything lies", title_justify="left", show_header=False, box=None)
    for name, place in places.items():
        table.add_row(name, Text(str(place), overflow="fold"))
    return table


def summary(dataset: dict[str, Any], nuclei: dict[str, int], places: Mapping[str, object]) -> RenderableType:
    """Return all that the demo prints at its end."""
    return Group("", image_table(dataset), "", nuclei_table(nuclei), "", places_table(places))


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
