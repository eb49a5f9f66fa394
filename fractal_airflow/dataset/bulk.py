"""Many rows in one statement: the two things that SQLite and PostgreSQL do differently."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_CHUNK = 10_000


def insert_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Add the rows, whose values are in the order of the columns; they are never all in memory twice."""
    if connection.dialect.name == "postgresql":
        _copy_rows(connection, table, columns, rows)
        return
    remaining = iter(rows)
    while chunk := [dict(zip(columns, row, strict=True)) for row in islice(remaining, _CHUNK)]:
        connection.execute(sa.insert(table), chunk)


def _copy_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    driver: Any = connection.connection.driver_connection
    # Names of our own tables and columns, never of users: nothing to quote.
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def among(connection: sa.Connection, column: sa.Column[int], ids: Collection[int]) -> sa.ColumnElement[bool]:
    """The condition that the column is one of these numbers, which are sent as one value however many."""
    if connection.dialect.name == "postgresql":
        numbers = sa.cast(list(ids), postgresql.ARRAY(sa.BigInteger))
        return column == sa.any_(numbers)
    listed = sa.func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(sa.select(listed.c.value))
