"""Alembic runs this file to migrate the connection that ``migrate.py`` hands over.

To add a migration: write ``versions/NNNN_what.py``, change ``schema.py`` alike, and set its ``REVISION``.
"""

from __future__ import annotations

from alembic import context

from fractal_airflow.dataset.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
