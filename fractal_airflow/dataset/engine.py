"""Connections to the dataset store: which databases it may be, transactions, and what to do when it fails."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from fractal_airflow.exceptions import DatasetStoreError

LOCK_TIMEOUT_S = 600
"""How long a write waits for others: a merge into a list of a million images takes about a minute."""

CONNECT_TIMEOUT_S = 10

SQLITE_CACHE_MB = 256
"""What SQLite may keep in memory: with its own 2 MB, a large merge writes pages of its indexes many times."""

_SECRETS = ("password", "sslpassword")
_POSTGRES_NAMES = ("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2")

_WAITED = "Another process has been writing to it for too long: let it finish, or end it."
_HINTS = {
    "unable to open": "Check that its folder exists and that this user may write there.",
    "readonly": "Make the file and its folder writable for this user.",
    "read-only": "Make the store writable for this user.",
    "locked": _WAITED,
    "lock timeout": _WAITED,
    "not a database": "The file is something else: choose another path.",
    "malformed": "The file is damaged: bring back a copy of it, or choose another path.",
    "disk is full": "Free some space there, then try again.",
    "no space left": "Free some space on the database server, then try again.",
    "permission denied": "Grant this user the right to create and change tables there.",
    "password": "Check user and password.",
    "connect": "Check that the database server runs, and host, port, database, user and password.",
}


def parse_url(url: str | Path) -> sa.URL:
    """The store's address: an SQLite file (a path, or ``sqlite:///…``) or ``postgresql://…``.

    :raises DatasetStoreError: if it is neither.
    """
    if isinstance(url, Path):
        return sa.URL.create("sqlite", database=str(url.absolute()))
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise DatasetStoreError(
            "The dataset store's address is not a database URL: write sqlite:////path/to/file.db "
            "or postgresql://user:password@host:port/database."
        ) from None
    if parsed.drivername in _POSTGRES_NAMES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DatasetStoreError(
            f"The dataset store {public_name(parsed)} is on a database that is not supported: "
            "use SQLite (sqlite:////path/to/file.db) or PostgreSQL (postgresql://…)."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise DatasetStoreError(
            "The dataset store cannot be kept in memory, since many processes share it: name a file, "
            "as sqlite:////path/to/file.db."
        )
    return parsed if parsed.query.get("uri") else parsed.set(database=str(Path(parsed.database).absolute()))


def public_name(url: sa.URL) -> str:
    """The address without any password, for messages."""
    return url.difference_update_query(_SECRETS).render_as_string(hide_password=True)


_engines: dict[sa.URL, sa.Engine] = {}
_engines_lock = threading.Lock()


def get_engine(url: sa.URL) -> sa.Engine:
    """The engine for this address: one a process.

    It keeps no connection open between transactions, so a forked process may go on with it.
    """
    with _engines_lock:
        if url not in _engines:
            with store_errors(url):
                _engines[url] = _make_engine(url)
        return _engines[url]


def _make_engine(url: sa.URL) -> sa.Engine:
    if url.drivername.startswith("postgresql"):
        options: dict[str, Any] = {"prepare_threshold": None}  # lets PgBouncer be in between
        if "connect_timeout" not in url.query:
            options["connect_timeout"] = CONNECT_TIMEOUT_S
        return sa.create_engine(url, poolclass=NullPool, connect_args=options)
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT_S})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver shall not begin transactions by itself: see _begin_sqlite
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
    connection.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_MB * 1024}")  # negative: in KiB, not pages


def _begin_sqlite(connection: sa.Connection) -> None:
    # Taking the write lock at once makes a second writer wait, where it would otherwise read first
    # and then fail, because what it read has changed.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one state of the store from its first statement to its last."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with store_errors(engine.url), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes; an exception inside it leaves the store as it was."""
    with store_errors(engine.url), engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S * 1000:.0f}ms'")
        yield connection


@contextmanager
def store_errors(url: sa.URL) -> Iterator[None]:
    """Turn whatever the database says into a :class:`DatasetStoreError` that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _store_error(url, error.orig or error) from error
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise _store_error(url, error, "Install fractal-airflow[postgres].") from error
    except Exception as error:
        # Setting up a connection and bulk loading talk to the driver, without SQLAlchemy in between.
        if type(error).__module__.split(".")[0] not in ("sqlite3", "psycopg"):
            raise
        raise _store_error(url, error) from error


def _store_error(url: sa.URL, error: BaseException, hint: str | None = None) -> DatasetStoreError:
    said = " ".join(str(error).split())
    if hint is None:
        hint = next((text for word, text in _HINTS.items() if word in said.lower()), "")
    return DatasetStoreError(f"The dataset store {public_name(url)} cannot be used: {said}. {hint}".rstrip())
