"""What runs did: the calls of steps, what they wrote, and the numbers that put merges in order.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

bytewise = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
moment = sa.DateTime(timezone=True)

_DATASET = ("merges", "announced")
_STEP_RUN = ("package", "version", "name", "arguments", "fingerprint", "resource")
_STEP_RUN_NUMBERS = ("merge", "first_merge", "written")


def upgrade() -> None:
    """Add the columns, the table of writes, and what the old rows are known to be."""
    for name in _DATASET:
        op.add_column("fractal_dataset", _number(name))
    for name in _STEP_RUN:
        op.add_column("fractal_step_run", sa.Column(name, sa.Text))
    op.add_column("fractal_step_run", sa.Column("started_at", moment))
    op.add_column("fractal_step_run", sa.Column("ended_at", moment))
    for name in _STEP_RUN_NUMBERS:
        op.add_column("fractal_step_run", _number(name))
    op.add_column("fractal_step_run", sa.Column("announced_before", sa.Integer))
    _extend_statuses()
    _create_writes()


def downgrade() -> None:
    """Forget what the tables of 0001 have no place for."""
    op.drop_table("fractal_image_write")
    op.drop_index("fractal_image_status_not_done", "fractal_image_status")
    for name in ("try_number", "warnings", "computed", "merge", "first_merge"):
        op.drop_column("fractal_image_status", name)
    for name in (*_STEP_RUN, "started_at", "ended_at", *_STEP_RUN_NUMBERS, "announced_before"):
        op.drop_column("fractal_step_run", name)
    for name in _DATASET:
        op.drop_column("fractal_dataset", name)


def _extend_statuses() -> None:
    op.add_column("fractal_image_status", sa.Column("try_number", sa.Integer))
    op.add_column("fractal_image_status", sa.Column("warnings", sa.Text))
    op.add_column(
        "fractal_image_status", sa.Column("computed", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("fractal_image_status", _number("merge"))
    op.add_column("fractal_image_status", _number("first_merge"))
    _find_computed()
    not_done = sa.text("status <> 'done'")
    op.create_index(
        "fractal_image_status_not_done",
        "fractal_image_status",
        ["step_run_id"],
        sqlite_where=not_done,
        postgresql_where=not_done,
    )


def _find_computed() -> None:
    """What is done stands, unless a step before it has seen the image later: its input may be another now."""
    status = sa.table(
        "fractal_image_status", *map(sa.column, ("id", "step_run_id", "zarr_url", "status", "computed"))
    )
    run = sa.table("fractal_step_run", *map(sa.column, ("id", "dataset_id", "dag_id", "step")))
    seen_before = sa.func.max(status.c.id).over(
        partition_by=(run.c.dataset_id, run.c.dag_id, status.c.zarr_url),
        order_by=run.c.step,
        range_=(None, -1),  # of the rows of all lower steps
    )
    joined = status.join(run, run.c.id == status.c.step_run_id)
    seen = sa.select(status.c.id, seen_before.label("before")).select_from(joined).subquery()
    outdated = sa.select(seen.c.id).where(seen.c.before > seen.c.id)
    stands = sa.and_(status.c.status == "done", status.c.id.not_in(outdated))
    op.execute(sa.update(status).where(stands).values(computed=sa.true()))


def _create_writes() -> None:
    op.create_table(
        "fractal_image_write",
        sa.Column(
            "step_run_id",
            sa.Integer,
            sa.ForeignKey("fractal_step_run.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("zarr_url", bytewise, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("merge", sa.Integer, nullable=False),
        sa.Column("first_merge", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))
