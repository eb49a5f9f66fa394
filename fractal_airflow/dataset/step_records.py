"""The step runs of a dataset as the history tells of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from typing import Any, get_args

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among
from fractal_airflow.dataset.records import Status, StepRecord, WriteKind
from fractal_airflow.dataset.schema import dataset, dataset_version, image_status, image_write, step_run
from fractal_airflow.dataset.versions import Head

_CALLED = (
    "dag_id",
    "run_id",
    "step",
    "task",
    "package",
    "version",
    "name",
    "fingerprint",
    "resource",
    "started_at",
    "ended_at",
    "merge",
)


def read_step_runs(
    connection: sa.Connection, head: Head, dag_id: str | None, run_id: str | None
) -> list[StepRecord]:
    """The step runs of a dataset, of a DAG, or of a run, in the order in which they began first."""
    query = sa.select(step_run).where(step_run.c.dataset_id == head.id).order_by(step_run.c.id)
    for name, value in (("dag_id", dag_id), ("run_id", run_id)):
        if value is not None:
            query = query.where(step_run.c[name] == value)
    rows = [row._mapping for row in connection.execute(query)]
    ids = [row["id"] for row in rows]
    statuses = _counts(connection, image_status, image_status.c.status, get_args(Status), ids)
    writes = _counts(connection, image_write, image_write.c.kind, get_args(WriteKind), ids)
    versions = _versions(connection, ids)
    return [
        StepRecord(
            **{name: row[name] for name in _CALLED},
            arguments=None if row["arguments"] is None else json.loads(row["arguments"]),
            versions=versions[row["id"]],
            statuses={status: count for status, count in statuses[row["id"]].items() if count},
            **writes[row["id"]],
        )
        for row in rows
    ]


def names_of_datasets(connection: sa.Connection, dag_id: str, run_id: str) -> list[str]:
    """The datasets on which steps of this run have begun."""
    query = sa.select(dataset.c.name).distinct().join(step_run)
    query = query.where(step_run.c.dag_id == dag_id, step_run.c.run_id == run_id)
    return list(connection.scalars(query.order_by(dataset.c.name)))


def _counts(
    connection: sa.Connection,
    table: sa.Table,
    column: sa.Column[Any],
    words: Collection[Any],
    ids: Collection[int],
) -> dict[int, dict[Any, Any]]:
    """How many rows of each step run have each word in a column."""
    own = table.c.step_run_id
    counts = [sa.func.count().filter(column == word) for word in words]
    query = sa.select(own, *counts).where(among(connection, own, ids)).group_by(own)
    found = defaultdict[int, dict[Any, Any]](lambda: dict.fromkeys(words, 0))
    found.update(
        (own_id, dict(zip(words, numbers, strict=True))) for own_id, *numbers in connection.execute(query)
    )
    return found


def _versions(connection: sa.Connection, ids: Collection[int]) -> dict[int, list[int]]:
    """The versions that each step run made."""
    own = dataset_version.c.step_run_id
    query = sa.select(own, dataset_version.c.version).where(among(connection, own, ids))
    found = defaultdict[int, list[int]](list)
    for own_id, version in connection.execute(query.order_by(dataset_version.c.version)):
        found[own_id].append(version)
    return found
