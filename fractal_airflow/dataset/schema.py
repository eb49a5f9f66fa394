"""The tables of the dataset store, as the newest migration leaves them.

All names begin with ``fractal_``, so that the store may share a database with others, Airflow's included.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

REVISION = "0002"
"""The newest migration: known here so that a store that has it is opened without importing Alembic."""

VERSION_TABLE = "fractal_alembic_version"

metadata = sa.MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, also on SQLite, which forgets time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Store in UTC; a moment without time zone is taken to be in UTC."""
        return None if value is None else _in_utc(value)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Give back in UTC."""
        return None if value is None else _in_utc(value)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts up INTEGER keys only
Bytewise = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # quick to index, same order anywhere

NOT_DONE = sa.text("status <> 'done'")
"""What the index of unfinished and failed statuses holds. A query says so itself, word for word, to use it."""


def _number(name: str) -> sa.Column[int]:
    """A number that counts from 1 on; 0 in rows that are older than the column."""
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


dataset = sa.Table(
    "fractal_dataset",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Bytewise, nullable=False, unique=True),
    sa.Column("zarr_dir", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("next_position", BigInt, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    _number("merges"),  # so many there were so far: the number of the newest
    _number("announced"),  # changes up to this merge's were announced
)

# One step of one DAG run on one dataset. It keeps ids and names out of the millions of status rows.
step_run = sa.Table(
    "fractal_step_run",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"), nullable=False),
    sa.Column("dag_id", Bytewise, nullable=False),
    sa.Column("run_id", Bytewise, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("task", Bytewise, nullable=False),
    sa.Column("package", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("arguments", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("resource", sa.Text),
    sa.Column("started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    _number("merge"),  # its newest: none of its rows has a higher one
    _number("first_merge"),  # its first: none of its rows has a lower one
    _number("written"),  # so many images: rows of image_write
    sa.Column(
        "announced_before", sa.Integer
    ),  # before a merge of its own was announced, changes up to this were
    sa.UniqueConstraint("dataset_id", "dag_id", "run_id", "step"),
    sa.Index("fractal_step_run_task", "task"),
)

dataset_version = sa.Table(
    "fractal_dataset_version",
    metadata,
    sa.Column("dataset_id", sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("step_run_id", sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE")),
    sa.Column("image_count", sa.Integer, nullable=False),
    sa.Column("added", sa.Integer, nullable=False),
    sa.Column("updated", sa.Integer, nullable=False),
    sa.Column("removed", sa.Integer, nullable=False),
)

# One image as it was from version_from up to, but not in, version_to (null: still is).
image = sa.Table(
    "fractal_image",
    metadata,
    sa.Column("id", BigInt, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"), nullable=False),
    sa.Column("position", BigInt, nullable=False),
    sa.Column("zarr_url", sa.Text, nullable=False),
    sa.Column("origin", sa.Text),
    sa.Column("attributes", sa.Text, nullable=False),
    sa.Column("types", sa.Text, nullable=False),
    sa.Column("version_from", sa.Integer, nullable=False),
    sa.Column("version_to", sa.Integer),
    sa.Index("fractal_image_current", "dataset_id", "version_to", "position"),
)

image_status = sa.Table(
    "fractal_image_status",
    metadata,
    sa.Column("id", BigInt, primary_key=True),
    sa.Column("step_run_id", sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE"), nullable=False),
    sa.Column("zarr_url", Bytewise, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("map_index", sa.Integer),
    sa.Column("log", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("started_at", UtcDateTime),
    sa.Column("seconds", sa.Double),
    sa.Column("max_rss_mb", sa.Double),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("try_number", sa.Integer),
    sa.Column("warnings", sa.Text),
    sa.Column("computed", sa.Boolean, nullable=False, server_default=sa.false()),
    _number("merge"),
    _number("first_merge"),  # the one of this step run that recorded the image first, whatever replaced it
    sa.UniqueConstraint("step_run_id", "zarr_url"),
    sa.Index(
        "fractal_image_status_not_done", "step_run_id", sqlite_where=NOT_DONE, postgresql_where=NOT_DONE
    ),
)

# What a step run did to an image. It has no id: on SQLite the table is then its own index.
image_write = sa.Table(
    "fractal_image_write",
    metadata,
    sa.Column("step_run_id", sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("zarr_url", Bytewise, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("merge", sa.Integer, nullable=False),
    sa.Column("first_merge", sa.Integer, nullable=False),  # the step run's first that wrote the image
    sqlite_with_rowid=False,
)
