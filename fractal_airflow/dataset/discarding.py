"""Results that do not stand any more, since the image list was changed from outside: what led to them is pending."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, among_texts, fetch_plain
from fractal_airflow.dataset.records import NO_IMAGE
from fractal_airflow.dataset.rows import ImageRow
from fractal_airflow.dataset.schema import image_status, image_write, step_run
from fractal_airflow.dataset.steps import step_run_ids, step_runs_after
from fractal_airflow.dataset.versions import Head
from fractal_airflow.dataset.writes import looked_up


def discard_later(connection: sa.Connection, head: Head, version: int) -> None:
    """Discard all results of the step runs that made later versions than this one."""
    _discard(connection, image_status.c.step_run_id.in_(step_runs_after(head, version)))


def discard_changed(
    connection: sa.Connection, head: Head, before: Iterable[ImageRow], changed: Collection[str]
) -> None:
    """Discard the results that led to these images, which were taken off the list or changed in it.

    :param before: the image list as it was.
    """
    if not changed:
        return
    origins = {row.zarr_url: row.origin or NO_IMAGE for row in before if row.zarr_url in changed}
    for own_id, inputs in _inputs_of(connection, head, origins).items():
        mine = image_status.c.step_run_id == own_id
        known = sa.and_(mine, among_texts(connection, image_status.c.zarr_url, inputs))
        count = connection.scalar(sa.select(sa.func.count()).select_from(image_status).where(known))
        # Where it is not known which of its inputs an image was made of, it may have been any.
        _discard(connection, known if count == len(inputs) else mine)
    old_runs = step_run_ids(connection, head, step_run.c.merge == 0)
    if not old_runs:
        return
    old = among(connection, image_status.c.step_run_id, old_runs)
    any_of_them = among_texts(connection, image_status.c.zarr_url, {*origins, *origins.values()})
    _discard(connection, old, any_of_them)  # what those wrote is not known


def _inputs_of(connection: sa.Connection, head: Head, origins: dict[str, str]) -> dict[int, set[str]]:
    """What the step runs that made or edited these images, by ``zarr_url``, had worked on to do so."""
    inputs = defaultdict[int, set[str]](set)
    runs = sa.select(step_run.c.id, step_run.c.written)
    runs = runs.where(step_run.c.dataset_id == head.id, step_run.c.written > 0)
    for own_id, written in connection.execute(runs).all():
        query = sa.select(image_write.c.zarr_url, image_write.c.kind).where(
            image_write.c.step_run_id == own_id
        )
        if looked_up(written, len(origins)):
            query = query.where(among_texts(connection, image_write.c.zarr_url, origins))
        for url, kind in fetch_plain(connection, query):
            if url in origins and kind != "removed":
                inputs[own_id].add(origins[url] if kind == "made" else url)
    return inputs


def _discard(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> None:
    query = sa.update(image_status).where(*where, image_status.c.computed)
    connection.execute(query.values(computed=False))
