"""What step runs did to images: one row for each image that a step run made, edited or removed.

An image counts as written though its entry in the list stayed as it was: its pixels may not have.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import get_args

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch, fetch_plain, insert_rows
from fractal_airflow.dataset.records import ImageWrite, Merged, StepRun, WriteKind
from fractal_airflow.dataset.schema import image_write, step_run
from fractal_airflow.dataset.steps import same_step_run, step_run_ids
from fractal_airflow.dataset.versions import Head
from fractal_airflow.fractal.images import Image

SMALL = 1000
"""A step run that wrote no more images is read whole."""
_ROWS_A_LOOK_UP = 4
"""So many rows of a step run are read one after the other in the time in which one is looked up."""

_COLUMNS = ("step_run_id", "zarr_url", "kind", "merge", "first_merge")


def find_writes(
    before: Sequence[Image], after: Iterable[Image], inputs: Container[str], merged: Merged
) -> dict[str, WriteKind]:
    """What a change did to which images: it gave a new object to those that it wrote.

    :param before: the images that the change was given.
    :param inputs: the images that its step worked on: those are edited, others are made.
    :param merged: what differs from the newest list. Where a step is merged again, its change begins with an
        older list, and what it does not repeat is undone: that is written, too.
    """
    given = {id(one) for one in before}
    present: set[str] = set()
    written = list(merged.added + merged.updated)
    for one in after:
        present.add(one.zarr_url)
        if id(one) not in given:
            written.append(one.zarr_url)
    writes: dict[str, WriteKind] = {url: "edited" if url in inputs else "made" for url in written}
    for one in before:
        if one.zarr_url not in present:
            writes[one.zarr_url] = "removed"
    for url in merged.removed:
        writes[url] = "removed"
    return writes


def record_writes(
    connection: sa.Connection, own_id: int, writes: Mapping[str, WriteKind], merge: int
) -> None:
    """Record what a step run did; what it did to the same images in an earlier merge is replaced."""
    if not writes:
        return
    mine = image_write.c.step_run_id == own_id
    columns = [image_write.c[name] for name in _COLUMNS[1:]]
    rows = {url: row for url, *row in fetch_plain(connection, sa.select(*columns).where(mine))}
    if rows:
        connection.execute(sa.delete(image_write).where(mine))
    for url, kind in writes.items():
        first = rows[url][-1] if url in rows else merge
        rows[url] = [kind, merge, first]
    insert_rows(connection, image_write, _COLUMNS, ((own_id, url, *rows[url]) for url in sorted(rows)))
    connection.execute(sa.update(step_run).where(step_run.c.id == own_id).values(written=len(rows)))


def looked_up(written: int, wanted: int) -> bool:
    """Whether to look up the wanted images one by one in a step run that wrote so many, not to read them all."""
    return written > max(SMALL, _ROWS_A_LOOK_UP * wanted)


def read_writes(connection: sa.Connection, head: Head, step: StepRun) -> list[ImageWrite]:
    """What a step run did, by ``zarr_url``."""
    query = sa.select(image_write.c.zarr_url, image_write.c.kind).select_from(image_write.join(step_run))
    query = query.where(same_step_run(head, step)).order_by(image_write.c.zarr_url)
    return [ImageWrite(*row) for row in fetch(connection, query)]


def written_in_run(
    connection: sa.Connection, head: Head, dag_id: str, run_id: str, before_step: int
) -> set[str]:
    """The images that the steps of a run before this one made or edited."""
    mine = (step_run.c.dag_id == dag_id, step_run.c.run_id == run_id, step_run.c.step < before_step)
    return _made_or_edited(connection, step_run_ids(connection, head, *mine))


def written_between(
    connection: sa.Connection, head: Head, since: int, merge: int, except_dag_id: str | None
) -> set[str]:
    """The images that were made or edited by the merges after ``since``, up to ``merge``."""
    others = () if except_dag_id is None else (step_run.c.dag_id != except_dag_id,)
    runs = step_run_ids(connection, head, step_run.c.merge > since, *others)
    return _made_or_edited(connection, runs, image_write.c.merge > since, image_write.c.merge <= merge)


def _made_or_edited(
    connection: sa.Connection, own_ids: Collection[int], *where: sa.ColumnElement[bool]
) -> set[str]:
    of_these = among(connection, image_write.c.step_run_id, own_ids)
    query = sa.select(image_write.c.zarr_url).where(of_these, *where, image_write.c.kind != "removed")
    return {url for (url,) in fetch_plain(connection, query)}


def anything_unannounced(connection: sa.Connection, head: Head) -> bool:
    """Whether anything was written since the last announcement."""
    return bool(connection.scalar(sa.select(sa.exists().where(_since_announced(connection, head)))))


def unannounced(connection: sa.Connection, head: Head) -> Merged | None:
    """What was written since the last announcement, as one merge would tell; None: nothing was."""
    kinds = get_args(WriteKind)
    # One number a row, which grows from write to write of an image.
    numbers = [(image_write.c.kind == kind, number) for number, kind in enumerate(kinds)]
    order = image_write.c.merge * len(kinds) + sa.case(*numbers)
    newest: dict[str, int] = {}
    query = sa.select(image_write.c.zarr_url, order).where(_since_announced(connection, head))
    for url, number in fetch_plain(connection, query):
        if number > newest.get(url, 0):
            newest[url] = number
    if not newest:
        return None
    made, edited, removed = (
        sorted(url for url, code in newest.items() if code % len(kinds) == number)
        for number in range(len(kinds))
    )
    written = len(made) + len(edited)
    return Merged(head.version, made, edited, removed, head.merges, head.announced, written)


def _since_announced(connection: sa.Connection, head: Head) -> sa.ColumnElement[bool]:
    runs = step_run_ids(connection, head, step_run.c.merge > head.announced, step_run.c.written > 0)
    of_these = among(connection, image_write.c.step_run_id, runs)
    return sa.and_(of_these, image_write.c.merge > head.announced)
