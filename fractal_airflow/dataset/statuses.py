"""Image statuses: one row for each image of each step run, so that the rows of all runs are the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch, insert_rows
from fractal_airflow.dataset.records import ImageStatus, StatusRecord
from fractal_airflow.dataset.rows import check_text
from fractal_airflow.dataset.schema import dataset, image_status, step_run

_NEWEST_RUNS = 20

_STATUS_COLUMNS = (
    "zarr_url",
    "status",
    "map_index",
    "log",
    "fingerprint",
    "error",
    "started_at",
    "seconds",
    "max_rss_mb",
)
_RECORD_COLUMNS = (*_STATUS_COLUMNS, "dag_id", "run_id", "step", "task", "recorded_at")


def write_statuses(connection: sa.Connection, own_id: int, statuses: Iterable[ImageStatus]) -> None:
    """Record these statuses for a step run; an image's earlier status in it, if any, is replaced.

    Where an image occurs more than once, its last status counts.
    """
    unique = {status.zarr_url: status for status in statuses}
    if not unique:
        return
    mine = image_status.c.step_run_id == own_id
    recorded = connection.execute(sa.select(image_status.c.id, image_status.c.zarr_url).where(mine))
    replaced = [row_id for row_id, url in recorded if url in unique]
    if replaced:
        connection.execute(sa.delete(image_status).where(among(connection, image_status.c.id, replaced)))
    now = datetime.now(UTC)
    columns = ("step_run_id", *_STATUS_COLUMNS, "recorded_at")
    # In the order of the index on zarr_url, which a database extends faster than it fills in.
    rows = ((own_id, *_values(unique[url]), now) for url in sorted(unique))
    insert_rows(connection, image_status, columns, rows)


def _values(status: ImageStatus) -> tuple[object, ...]:
    check_text(status.zarr_url)
    return (
        status.zarr_url,
        status.status,
        status.map_index,
        _storable(status.log),
        status.fingerprint,
        _storable(status.error),
        status.started_at,
        status.seconds,
        status.max_rss_mb,
    )


def _storable(text: str | None) -> str | None:
    """Text as every database takes it: what a program printed may hold anything."""
    if text is None:
        return None
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def read_statuses(
    connection: sa.Connection, dataset_id: int, wanted: Mapping[str, object], *, latest: bool
) -> list[StatusRecord]:
    """The status rows of a dataset, oldest first; those of one writing by ``zarr_url``.

    :param wanted: the values that columns of status or step run must have; those that are None may be any.
    :param latest: only the newest row for each step, task and image.
    """
    where = [step_run.c.dataset_id == dataset_id]
    for name, value in wanted.items():
        if value is not None:
            where.append((step_run.c[name] if name in step_run.c else image_status.c[name]) == value)
    joined = image_status.join(step_run)
    columns = [(image_status.c if name in image_status.c else step_run.c)[name] for name in _RECORD_COLUMNS]
    query = sa.select(*columns).select_from(joined).where(*where).order_by(image_status.c.id)
    if latest:
        newest = sa.select(sa.func.max(image_status.c.id)).select_from(joined).where(*where)
        newest = newest.group_by(step_run.c.step, step_run.c.task, image_status.c.zarr_url)
        query = query.where(image_status.c.id.in_(newest))
    return [
        StatusRecord(*values, dag_id=dag, run_id=run, step=number, task=task, recorded_at=at, merge=0)
        for *values, dag, run, number, task, at in fetch(connection, query)
    ]


def mean_seconds(connection: sa.Connection, task: str, name: str | None) -> float | None:
    """The mean time of a finished unit of this task, in the newest step run that has any."""
    runs = sa.select(step_run.c.id).where(step_run.c.task == task)
    if name is not None:
        runs = runs.join(dataset).where(dataset.c.name == name)
    newest = connection.scalars(runs.order_by(step_run.c.id.desc()).limit(_NEWEST_RUNS)).all()
    for own_id in newest:
        mean = connection.scalar(
            sa.select(sa.func.avg(image_status.c.seconds)).where(
                image_status.c.step_run_id == own_id, image_status.c.status == "done"
            )
        )
        if mean is not None:
            return float(mean)
    return None
