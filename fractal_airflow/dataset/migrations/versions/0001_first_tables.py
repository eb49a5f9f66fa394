"""The first tables of the dataset store.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

big_int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
bytewise = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, those that others point at first."""
    _create_datasets()
    _create_versions()
    _create_images()
    _create_statuses()


def downgrade() -> None:
    """Drop the tables and all that is in them."""
    for table in ("image_status", "image", "dataset_version", "step_run", "dataset"):
        op.drop_table(f"fractal_{table}")


def _create_datasets() -> None:
    op.create_table(
        "fractal_dataset",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", bytewise, nullable=False, unique=True),
        sa.Column("zarr_dir", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("next_position", big_int, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
    )


def _create_versions() -> None:
    op.create_table(
        "fractal_step_run",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "dataset_id", sa.Integer, sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("dag_id", bytewise, nullable=False),
        sa.Column("run_id", bytewise, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("task", bytewise, nullable=False),
        sa.UniqueConstraint("dataset_id", "dag_id", "run_id", "step"),
    )
    op.create_index("fractal_step_run_task", "fractal_step_run", ["task"])
    op.create_table(
        "fractal_dataset_version",
        sa.Column(
            "dataset_id",
            sa.Integer,
            sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("step_run_id", sa.Integer, sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE")),
        sa.Column("image_count", sa.Integer, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("updated", sa.Integer, nullable=False),
        sa.Column("removed", sa.Integer, nullable=False),
    )


def _create_images() -> None:
    op.create_table(
        "fractal_image",
        sa.Column("id", big_int, primary_key=True),
        sa.Column(
            "dataset_id", sa.Integer, sa.ForeignKey("fractal_dataset.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("position", big_int, nullable=False),
        sa.Column("zarr_url", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("types", sa.Text, nullable=False),
        sa.Column("version_from", sa.Integer, nullable=False),
        sa.Column("version_to", sa.Integer),
    )
    op.create_index("fractal_image_current", "fractal_image", ["dataset_id", "version_to", "position"])


def _create_statuses() -> None:
    op.create_table(
        "fractal_image_status",
        sa.Column("id", big_int, primary_key=True),
        sa.Column(
            "step_run_id",
            sa.Integer,
            sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("zarr_url", bytewise, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("map_index", sa.Integer),
        sa.Column("log", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("started_at", moment),
        sa.Column("seconds", sa.Double),
        sa.Column("max_rss_mb", sa.Double),
        sa.Column("recorded_at", moment, nullable=False),
        sa.UniqueConstraint("step_run_id", "zarr_url"),
    )
