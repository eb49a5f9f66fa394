"""Image statuses: one row for each image of each step run, so that the rows of all runs are the history."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch, fetch_plain, insert_rows
from fractal_airflow.dataset.records import ImageStatus, Status, StatusRecord, StepRun
from fractal_airflow.dataset.rows import check_text, storable
from fractal_airflow.dataset.schema import NOT_DONE, dataset, image_status, step_run
from fractal_airflow.dataset.steps import same_step_run
from fractal_airflow.dataset.versions import Head

SUBMITTED = sa.and_(NOT_DONE, image_status.c.status == "submitted")
FAILED = sa.and_(NOT_DONE, image_status.c.status == "failed", sa.not_(image_status.c.computed))
"""Failed, with no result that stands."""

LEFT = sa.and_(NOT_DONE, sa.not_(image_status.c.computed))
"""What an earlier try of a step run left: submitted, or failed with no result that stands."""

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
    "try_number",
    "warnings",
    "computed",
)
_RECORD_COLUMNS = (*_STATUS_COLUMNS, "dag_id", "run_id", "step", "task", "recorded_at", "merge")


def write_statuses(
    connection: sa.Connection, own_id: int, statuses: Iterable[ImageStatus], merge: int
) -> None:
    """Record these statuses for a step run; an image's earlier status in it, if any, is replaced.

    Where an image occurs more than once, its last status counts. Rows that are written later have higher
    ids, in one dataset, whatever is replaced: :mod:`fractal_airflow.dataset.pending` stands on that.

    :param merge: the number of the merge that records them; 0 for what is only submitted.
    """
    unique = {status.zarr_url: status for status in statuses}
    if not unique:
        return
    first = _forget(connection, own_id, unique)
    now = datetime.now(UTC)
    columns = ("step_run_id", *_STATUS_COLUMNS, "recorded_at", "merge", "first_merge")
    # In the order of the index on zarr_url, which a database extends faster than it fills in.
    rows = ((own_id, *_values(unique[url]), now, merge, first.get(url) or merge) for url in sorted(unique))
    insert_rows(connection, image_status, columns, rows)


def _forget(connection: sa.Connection, own_id: int, urls: Container[str]) -> dict[str, int]:
    """Remove what a step run has recorded for these images; return the merges that recorded them first."""
    mine = image_status.c.step_run_id == own_id
    columns = (image_status.c.id, image_status.c.zarr_url, image_status.c.first_merge)
    recorded = list(fetch_plain(connection, sa.select(*columns).where(mine)))
    replaced = [row for row in recorded if row[1] in urls]
    if replaced:
        all_of_them = len(replaced) == len(recorded)
        ids = [row_id for row_id, *_ in replaced]
        where = mine if all_of_them else among(connection, image_status.c.id, ids)
        connection.execute(sa.delete(image_status).where(where))
    return {url: first for _, url, first in replaced}


def _values(status: ImageStatus) -> tuple[object, ...]:
    check_text(status.zarr_url)
    warnings = [storable(text) for text in status.warnings]
    return (
        status.zarr_url,
        status.status,
        status.map_index,
        storable(status.log),
        storable(status.fingerprint),
        storable(status.error),
        status.started_at,
        status.seconds,
        status.max_rss_mb,
        status.try_number,
        json.dumps(warnings) if warnings else None,
        status.status == "done" if status.computed is None else status.computed,
    )


def write_submitted(connection: sa.Connection, own_id: int, urls: Iterable[str], fingerprint: str) -> None:
    """Record that these images are submitted to a step run, and forget what was left of others."""
    mine = image_status.c.step_run_id == own_id
    connection.execute(sa.delete(image_status).where(mine, LEFT))
    submitted = (ImageStatus(url, "submitted", fingerprint=fingerprint) for url in urls)
    write_statuses(connection, own_id, submitted, merge=0)


def has_leftovers(connection: sa.Connection, head: Head, step: StepRun) -> bool:
    """Whether a step run has images that are neither done nor computed."""
    query = sa.select(
        sa.exists().where(same_step_run(head, step), image_status.c.step_run_id == step_run.c.id, LEFT)
    )
    return bool(connection.scalar(query))


def submitted_urls(connection: sa.Connection, own_id: int) -> set[str]:
    """The images that are submitted to a step run, and not recorded yet."""
    query = sa.select(image_status.c.zarr_url).where(image_status.c.step_run_id == own_id, SUBMITTED)
    return set(connection.scalars(query))


def read_statuses(
    connection: sa.Connection,
    dataset_id: int,
    wanted: Mapping[str, object],
    *,
    status: Status | None = None,
    latest: bool,
) -> list[StatusRecord]:
    """The status rows of a dataset, oldest first; those of one writing by ``zarr_url``.

    :param wanted: the values that columns of status or step run must have; those that are None may be any.
    :param status: only rows with this status; not one that was it before its newest.
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
    if status is not None:
        query = query.where(image_status.c.status == status)
    return [_record(row) for row in fetch(connection, query)]


def _record(row: Any) -> StatusRecord:
    values = dict(zip(_RECORD_COLUMNS, row, strict=True))
    values["warnings"] = tuple(json.loads(values["warnings"] or "[]"))
    return StatusRecord(**values)


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
