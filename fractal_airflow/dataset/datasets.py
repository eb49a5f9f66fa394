"""The datasets themselves: finding and locking one, adding one, and telling about them."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fractal_airflow.dataset.discarding import discard_changed
from fractal_airflow.dataset.engine import public_name
from fractal_airflow.dataset.records import Dataset, Version, VersionOrigin
from fractal_airflow.dataset.schema import dataset, dataset_version, step_run
from fractal_airflow.dataset.versions import Head, place, read_rows, write_version
from fractal_airflow.exceptions import DatasetError, DatasetNotFoundError
from fractal_airflow.fractal.dataset_file import DatasetFile

_NAMES_IN_MESSAGE = 10

_HEAD = [dataset.c[name] for name in Head.__dataclass_fields__]
_WITH_COUNT = dataset.join(
    dataset_version,
    (dataset_version.c.dataset_id == dataset.c.id) & (dataset_version.c.version == dataset.c.version),
)


def find(connection: sa.Connection, name: str, *, lock: bool = False) -> Head | None:
    """The dataset's row, if there is one.

    :param lock: keep every other writer of this dataset waiting until the transaction ends. On SQLite the
        transaction itself does, for the whole store.
    """
    query = sa.select(*_HEAD).where(dataset.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else Head(*row)


def require(connection: sa.Connection, name: str, *, lock: bool = False) -> Head:
    """As :func:`find`.

    :raises DatasetNotFoundError: if there is none; it names those that exist.
    """
    head = find(connection, name, lock=lock)
    if head is not None:
        return head
    names = connection.scalars(sa.select(dataset.c.name).order_by(dataset.c.name)).all()
    listed = ", ".join(map(repr, names[:_NAMES_IN_MESSAGE])) or "none"
    more = f" and {len(names) - _NAMES_IN_MESSAGE} more" if len(names) > _NAMES_IN_MESSAGE else ""
    store = public_name(connection.engine.url)
    raise DatasetNotFoundError(f"There is no dataset {name!r} in {store}; existing ones: {listed}{more}.")


def check_version(head: Head, version: int) -> None:
    """Refuse a version that the dataset does not have.

    :raises DatasetNotFoundError: if it has no such version.
    """
    if not 1 <= version <= head.version:
        raise DatasetNotFoundError(
            f"Dataset {head.name!r} has no version {version}: it has 1 to {head.version}."
        )


def check_zarr_dir(head: Head, zarr_dir: str) -> None:
    """Refuse to go on with a dataset in another folder.

    :raises DatasetError: if its ``zarr_dir`` is another.
    """
    if head.zarr_dir != zarr_dir:
        raise DatasetError(
            f"Dataset {head.name!r} has the zarr_dir {head.zarr_dir!r}, not {zarr_dir!r}: "
            "use that one, or choose another dataset name."
        )


def add(connection: sa.Connection, name: str, zarr_dir: str) -> bool:
    """Add a dataset that has no version yet; false if there is one of that name."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    now = datetime.now(UTC)
    values = {"name": name, "zarr_dir": zarr_dir, "version": 0, "next_position": 0}
    statement = insert(dataset).values(**values, created_at=now, updated_at=now)
    # Another process may be adding the same name right now: this waits for it, and then does nothing.
    statement = statement.on_conflict_do_nothing(index_elements=["name"])
    return connection.scalar(statement.returning(dataset.c.id)) is not None


def set_images(connection: sa.Connection, file: DatasetFile, what: VersionOrigin) -> Dataset:
    """Make this file's images the next version of its dataset.

    What was computed of images that it lacks, or has otherwise, does not stand any more.
    """
    head = require(connection, file.name, lock=True)
    newest = read_rows(connection, head)
    written = write_version(connection, head, newest, place(file.images, [], newest, head), what)
    discard_changed(connection, head, newest, {*written.updated, *written.removed})
    return describe(connection, file.name)


def describe(connection: sa.Connection, name: str) -> Dataset:
    """The dataset as users see it.

    :raises DatasetNotFoundError: if there is none of that name.
    """
    require(connection, name)
    return describe_all(connection, dataset.c.name == name)[0]


def describe_all(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Dataset]:
    """The datasets that meet the condition, by name."""
    columns = (
        dataset.c.name,
        dataset.c.zarr_dir,
        dataset.c.version,
        dataset_version.c.image_count,
        dataset.c.created_at,
        dataset.c.updated_at,
    )
    query = sa.select(*columns).select_from(_WITH_COUNT).where(where).order_by(dataset.c.name)
    return [Dataset(*row) for row in connection.execute(query)]


def list_versions(connection: sa.Connection, head: Head) -> list[Version]:
    """All versions of a dataset, oldest first."""
    names = Version.__dataclass_fields__
    columns = [dataset_version.c[name] if name in dataset_version.c else step_run.c[name] for name in names]
    query = (
        sa.select(*columns)
        .select_from(dataset_version.outerjoin(step_run))
        .where(dataset_version.c.dataset_id == head.id)
        .order_by(dataset_version.c.version)
    )
    return [Version(*row) for row in connection.execute(query)]
