"""What the demo prints at its end: the image list, the nuclei of each well, and where everything lies."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 100  # where the output is no terminal


def image_table(dataset: Mapping[str, Any]) -> Table:
    """Return the image list of a dataset export, with paths relative to its ``zarr_dir``."""
    images = dataset["images"]
    attributes = sorted({name for image in images for name in image["attributes"]})
    types = sorted({name for image in images for name in image["types"]})
    table = Table(*("zarr_url", "origin", *attributes, *types), box=SIMPLE_HEAD)
    below = len(dataset["zarr_dir"]) + 1
    for image in images:
        origin = image["origin"][below:] if image["origin"] else "-"
        values = [image["attributes"].get(name, "-") for name in attributes]
        values += [image["types"].get(name, "-") for name in types]
        table.add_row(image["zarr_url"][below:], origin, *map(str, values))
    return table


def nuclei_table(nuclei: Mapping[str, int]) -> Table:
    """Return the number of nuclei of each well, laid out as on the plate."""
    columns = sorted({well[1:] for well in nuclei})
    table = Table("", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    for row in sorted({well[0] for well in nuclei}):
        table.add_row(row, *(str(nuclei.get(row + column, "")) for column in columns))
    return table


def print_summary(
    dataset: Mapping[str, Any], nuclei: Mapping[str, int], places: Mapping[str, object]
) -> None:
    """Print all of it; paths stay in one piece, to be copied."""
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    console.print(f"\n[bold]Image list of dataset {dataset['name']}[/]: {len(dataset['images'])} images")
    console.print(image_table(dataset))
    console.print(f"[bold]Nuclei per well[/]: {sum(nuclei.values())} in all")
    console.print(nuclei_table(nuclei))
    console.print("[bold]Where everything lies[/]")
    for name, place in places.items():
        console.print(f"  {name:18} {place}", soft_wrap=True, highlight=False, markup=False)
