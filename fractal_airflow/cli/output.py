"""How commands speak: tables for people, JSON for programs, errors in a line of their own."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fractal_airflow.cli.connections import look_into_airflows_database
from fractal_airflow.exceptions import FractalAirflowError

# A pipe has no width: nothing is to be cut, or folded, there.
_PIPE_WIDTH = 1_000_000


def command(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a function a command, which ends with a line on what is wrong, and exit code 1."""

    @functools.wraps(function)
    def run(args: Any) -> None:
        # The dataset store's migrations are no news to who asks for a dataset; nor is it that Airflow takes every
        # short text in a connection for a secret.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("airflow.sdk._shared.secrets_masker").setLevel(logging.ERROR)
        look_into_airflows_database()
        try:
            function(args)
            sys.stdout.flush()
        except FractalAirflowError as error:
            print_error(str(error))
        except KeyboardInterrupt:
            print_error("stopped")
        except BrokenPipeError:
            # Whoever reads has enough, as `head` does; Python must not try to write the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            return
        sys.exit(1)

    return run


def print_error(message: str) -> None:
    """Print an error on the terminal, in red where there is colour."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"error: {message}", style="red", markup=False, highlight=False, emoji=False)


def print_json(data: object) -> None:
    """Print data as JSON, on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print any number of rows as a JSON list, a row a line, as they come."""
    before = "[\n"
    for row in rows:
        sys.stdout.write(before + json.dumps(row, ensure_ascii=False))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


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
        table.add_row(*(escape(as_text(row.get(column))) for column in columns))
    console = Console(emoji=False)
    console.print(table) if console.is_terminal else Console(width=_PIPE_WIDTH, emoji=False).print(table)


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size: float) -> str:
    """Return a number of bytes as people read it: ``3.4 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{round(size, 1):g} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def as_text(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={as_text(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
