"""Image lists with all their versions: reading one, and writing the next as what differs from the newest.

A row holds an image as it was from one version on, up to the version that changed or removed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch, insert_rows
from fractal_airflow.dataset.records import Diff, Merged, VersionOrigin
from fractal_airflow.dataset.rows import ImageRow, to_images, to_row
from fractal_airflow.dataset.schema import dataset, dataset_version, image
from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image

_COLUMNS = ("dataset_id", "position", "zarr_url", "origin", "attributes", "types", "version_from")


@dataclass(slots=True, frozen=True)
class Head:
    """A dataset's own row: its newest version, the position that its next new image gets, its merges."""

    id: int
    name: str
    zarr_dir: str
    version: int
    next_position: int
    created_at: datetime
    updated_at: datetime
    merges: int
    announced: int


def in_version(version: int) -> sa.ColumnElement[bool]:
    """The condition that an image row belongs to this version."""
    return sa.and_(
        image.c.version_from <= version,
        sa.or_(image.c.version_to.is_(None), image.c.version_to > version),
    )


def read_rows(connection: sa.Connection, head: Head, version: int | None = None) -> list[ImageRow]:
    """The image rows of a version (default: the newest) in the order in which images were added."""
    newest = version is None or version == head.version
    return select_rows(connection, head, image.c.version_to.is_(None) if newest else in_version(version or 0))


def select_rows(connection: sa.Connection, head: Head, where: sa.ColumnElement[bool]) -> list[ImageRow]:
    """The image rows of a dataset that meet a condition, in the order in which images were added."""
    columns = [image.c[name] for name in ImageRow._fields]
    query = sa.select(*columns).where(image.c.dataset_id == head.id, where).order_by(image.c.position)
    return [ImageRow(*row) for row in fetch(connection, query)]


def compare(connection: sa.Connection, head: Head, a: int, b: int) -> Diff:
    """What differs between two versions; rows that both have are not even read."""
    before = select_rows(connection, head, in_version(a) & ~in_version(b))
    after = select_rows(connection, head, in_version(b) & ~in_version(a))
    old = {row.zarr_url: row for row in before}
    pairs = [(old[row.zarr_url], row) for row in after if row.zarr_url in old]
    changed = [pair for pair in pairs if pair[0][3:] != pair[1][3:]]
    kept = {row.zarr_url for _, row in pairs}
    return Diff(
        added=to_images(row for row in after if row.zarr_url not in old),
        removed=to_images(row for row in before if row.zarr_url not in kept),
        changed=list(
            zip(to_images(row for row, _ in changed), to_images(row for _, row in changed), strict=True)
        ),
    )


def changed_urls(connection: sa.Connection, head: Head, version: int) -> set[str]:
    """The images that this version added, removed or changed against the one before."""
    columns = [image.c[name] for name in ImageRow._fields[2:]]
    query = sa.select(*columns).where(image.c.dataset_id == head.id)
    ended = set(fetch(connection, query.where(image.c.version_to == version)))
    begun = set(fetch(connection, query.where(image.c.version_from == version)))
    return {url for url, *_ in ended ^ begun}


def place(
    images: Iterable[Image], before: Sequence[tuple[ImageRow, Image]], newest: Sequence[ImageRow], head: Head
) -> list[ImageRow]:
    """Rows for a changed list: each image keeps its position where the order allows it, else gets a new one.

    :param before: the rows and images that the change began with: an image that is still the very same
        object needs no encoding.
    """
    known = {row.zarr_url: (row, old) for row, old in before}
    positions = {row.zarr_url: row.position for row, _ in before}
    positions.update((row.zarr_url, row.position) for row in newest)
    last, next_position = -1, head.next_position
    rows = []
    for new in images:
        wanted = positions.get(new.zarr_url, -1)
        if wanted <= last:
            wanted, next_position = next_position, next_position + 1
        last = wanted
        row, old = known.get(new.zarr_url, (None, None))
        rows.append(row._replace(position=wanted) if row and old is new else to_row(new, wanted))
    return rows


def write_version(
    connection: sa.Connection,
    head: Head,
    newest: Iterable[ImageRow],
    rows: Sequence[ImageRow],
    what: VersionOrigin,
    step_run_id: int | None = None,
) -> Merged:
    """Make these rows the next version, writing only what differs from the newest: nothing if nothing does.

    A new dataset's first version is written even when it holds no image.

    :raises ImageListError: if an image occurs twice.
    """
    merged, fresh, ended = _compare(head, newest, rows)
    if merged.version != head.version:
        _end_rows(connection, ended, merged.version)
        insert_rows(connection, image, _COLUMNS, ((head.id, *row[1:], merged.version) for row in fresh))
        _add_version(connection, head, merged, what, len(rows), step_run_id)
        _set_head(connection, head, merged.version, rows)
    return merged


def _compare(
    head: Head, newest: Iterable[ImageRow], rows: Sequence[ImageRow]
) -> tuple[Merged, list[ImageRow], list[int]]:
    """What changed, the rows to add, and the ids of those to end."""
    old = {row.zarr_url: row for row in newest}
    _refuse_repeats(rows)
    added, updated, fresh, ended = [], [], [], []
    for row in rows:
        before = old.pop(row.zarr_url, None)
        if before is None:
            added.append(row.zarr_url)
        elif before[1:] == row[1:]:
            continue
        else:
            ended.append(before.id)
            if before[3:] != row[3:]:
                updated.append(row.zarr_url)
        fresh.append(row)
    ended.extend(row.id for row in old.values())
    version = head.version + 1 if fresh or ended or head.version == 0 else head.version
    return Merged(version, added, updated, removed=list(old)), fresh, ended


def _refuse_repeats(rows: Sequence[ImageRow]) -> None:
    if len({row.zarr_url for row in rows}) == len(rows):
        return
    seen: set[str] = set()
    for row in rows:
        if row.zarr_url in seen:
            raise ImageListError(f"Image {row.zarr_url!r} occurs twice in the image list: name it once.")
        seen.add(row.zarr_url)


def _end_rows(connection: sa.Connection, ids: Collection[int], version: int) -> None:
    if ids:
        connection.execute(
            sa.update(image).where(among(connection, image.c.id, ids)).values(version_to=version)
        )


def _add_version(
    connection: sa.Connection,
    head: Head,
    merged: Merged,
    what: VersionOrigin,
    image_count: int,
    step_run_id: int | None,
) -> None:
    connection.execute(
        sa.insert(dataset_version).values(
            dataset_id=head.id,
            version=merged.version,
            created_at=datetime.now(UTC),
            what=what,
            step_run_id=step_run_id,
            image_count=image_count,
            added=len(merged.added),
            updated=len(merged.updated),
            removed=len(merged.removed),
        )
    )


def _set_head(connection: sa.Connection, head: Head, version: int, rows: Sequence[ImageRow]) -> None:
    after_last = rows[-1].position + 1 if rows else 0
    connection.execute(
        sa.update(dataset)
        .where(dataset.c.id == head.id)
        .values(
            version=version,
            next_position=max(head.next_position, after_last),
            updated_at=datetime.now(UTC),
        )
    )
