"""Brings a store's tables up to date, at its first use in a process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import sqlalchemy as sa

from fractal_airflow.dataset.engine import LOCK_TIMEOUT_S, public_name, reading, store_errors, writing
from fractal_airflow.dataset.schema import REVISION, VERSION_TABLE
from fractal_airflow.exceptions import DatasetStoreError

_ADVISORY_LOCK = 0x46524143_54414C  # "FRACTAL": the same number in every process that migrates
_prepared: set[sa.URL] = set()
_preparing = threading.Lock()  # Alembic keeps its context in module globals


def prepare(engine: sa.Engine) -> None:
    """Create the tables or bring them up to date, unless this process has seen that they are.

    Any number of processes may do so at once: one does the work, and the others wait for it.

    :raises DatasetStoreError: if the store cannot be used, or a newer fractal_airflow made it.
    """
    with _preparing:
        if engine.url in _prepared and not _is_gone(engine.url):
            return
        if engine.dialect.name == "sqlite":
            _make_sqlite_file(engine)
        with reading(engine) as connection:
            revision = _revision(connection)
        if revision != REVISION:
            with writing(engine) as connection:
                _upgrade(connection)
        _prepared.add(engine.url)


def _is_gone(url: sa.URL) -> bool:
    """Whether somebody has removed the file since."""
    return _is_plain_file(url) and not Path(url.database or "").exists()


def _is_plain_file(url: sa.URL) -> bool:
    return url.drivername.startswith("sqlite") and not url.query.get("uri")


def _make_sqlite_file(engine: sa.Engine) -> None:
    folder = Path(engine.url.database or "").parent
    if _is_plain_file(engine.url):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetStoreError(
                f"The dataset store {public_name(engine.url)} cannot be used: its folder {folder} "
                f"cannot be made ({error.strerror}). Choose another path, or make the folder yourself."
            ) from error
    with store_errors(engine.url):
        _switch_to_wal(engine)


def _switch_to_wal(engine: sa.Engine) -> None:
    """Let readers go on while somebody writes: the write-ahead log, which the file remembers."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        while cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                cursor.execute("PRAGMA journal_mode = WAL").fetchone()
            except engine.dialect.loaded_dbapi.OperationalError as error:
                # SQLite does not wait by itself when two processes switch at the same moment.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise sa.exc.OperationalError("PRAGMA journal_mode", None, error) from error
                time.sleep(0.02)
    finally:
        connection.close()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "fractal_airflow.dataset:migrations")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    revision = _revision(connection)
    if revision is not None and revision not in known:
        raise DatasetStoreError(
            f"The dataset store {public_name(connection.engine.url)} was made by a newer fractal_airflow "
            f"(its tables are at {revision!r}, this one knows {REVISION!r}): upgrade fractal_airflow here."
        )
    command.upgrade(config, "head")
