"""How commands speak: tables for people, JSON for programs, errors in one line."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fractal_airflow.exceptions import FractalAirflowError


def command(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a command end with an error line and exit code 1 where this package knows what is wrong."""

    @functools.wraps(function)
    def run(args: Any) -> None:
        try:
            function(args)
        except FractalAirflowError as error:
            print_error(str(error))
            sys.exit(1)

    return run


def print_error(message: str) -> None:
    """Print an error on the terminal, in red where there is colour."""
    Console(stderr=True, soft_wrap=True).print(f"error: {message}", style="red", markup=False, highlight=False)


def print_json(data: object) -> None:
    """Print data as JSON, on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: str = "table") -> None:
    """
    Print rows as a table or as JSON.

    :param rows: one mapping a row; the JSON has all of its keys, the table only ``columns``.
    """
    if output == "json":
        print_json([dict(row) for row in rows])
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    # A pipe has no width: nothing is to be cut there.
    console.print(table) if console.is_terminal else Console(width=10_000).print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, Mapping):
        return escape(", ".join(f"{key}={_cell(item)}" for key, item in value.items()))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(str(value))
