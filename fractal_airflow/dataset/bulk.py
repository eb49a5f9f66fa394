"""Many rows in one statement: the two things that SQLite and PostgreSQL do differently."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_CHUNK = 10_000


def insert_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Add the rows, whose values are in the order of the columns; they are never all in memory twice.

    They go to the driver as they are: SQLAlchemy's own way would take twice as long.
    """
    # Names of our own tables and columns, never of users: nothing to quote.
    into = f"{table.name} ({', '.join(columns)})"
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    insert = f"INSERT INTO {into} VALUES ({', '.join('?' * len(columns))})"
    converted = _for_sqlite(connection.dialect, [table.c[name] for name in columns], rows)
    while chunk := list(islice(converted, _CHUNK)):
        connection.exec_driver_sql(insert, chunk)


def _for_sqlite(
    dialect: sa.Dialect, columns: Sequence[sa.Column[Any]], rows: Iterable[Sequence[Any]]
) -> Iterator[tuple[Any, ...]]:
    """The rows with those values converted that SQLite has no type for: moments."""
    converters = [(i, column.type.bind_processor(dialect)) for i, column in enumerate(columns)]
    needed = [(i, convert) for i, convert in converters if convert is not None]
    for row in rows:
        values = list(row)
        for i, convert in needed:
            values[i] = convert(values[i])
        yield tuple(values)


def fetch(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """The rows of a large result, taken from the driver many at a time."""
    for chunk in connection.execute(query).partitions(_CHUNK):
        yield from chunk


def fetch_plain(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """As :func:`fetch`, in half the time, for texts and numbers: those the driver gives as they are."""
    cursor: Any = connection.execute(query).cursor
    while chunk := cursor.fetchmany(_CHUNK):
        yield from chunk


def among(connection: sa.Connection, column: sa.Column[int], ids: Collection[int]) -> sa.ColumnElement[bool]:
    """The condition that the column is one of these numbers, which are sent as one value however many."""
    if connection.dialect.name == "postgresql":
        numbers = sa.cast(list(ids), postgresql.ARRAY(sa.BigInteger))
        return column == sa.any_(numbers)
    listed = sa.func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def among_texts(
    connection: sa.Connection, column: sa.Column[str], texts: Collection[str]
) -> sa.ColumnElement[bool]:
    """As :func:`among`, for texts."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.cast(list(texts), postgresql.ARRAY(sa.Text)))
    listed = sa.func.json_each(json.dumps(list(texts))).table_valued("value")
    return column.in_(sa.select(listed.c.value))
