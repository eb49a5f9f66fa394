"""The dataset store: image lists with versions, and per-image status, in a SQL database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from fractal_airflow.collector import collector_paused
from fractal_airflow.dataset import datasets, versions
from fractal_airflow.dataset.conflicts import merged_before, refuse_conflict
from fractal_airflow.dataset.discarding import discard_later
from fractal_airflow.dataset.records import (
    Dataset,
    Diff,
    ImageStatus,
    Merged,
    Snapshot,
    StepRun,
    Version,
    VersionOrigin,
)
from fractal_airflow.dataset.rows import to_images
from fractal_airflow.dataset.run_history import RunHistory
from fractal_airflow.dataset.schema import dataset
from fractal_airflow.dataset.statuses import write_statuses
from fractal_airflow.dataset.steps import (
    announce_merge,
    announced_since,
    count_merge,
    merge_base,
    set_announced,
    step_run_id,
)
from fractal_airflow.dataset.versions import Head
from fractal_airflow.dataset.writes import find_writes, record_writes
from fractal_airflow.exceptions import DatasetConflictError, DatasetError
from fractal_airflow.fractal.dataset_file import DatasetFile, dump_dataset, parse_dataset
from fractal_airflow.fractal.images import Image, dump_image

Change = Callable[[list[Image], frozenset[str]], list[Image]]
"""From an image list to the next. The set holds what this step run has removed in an earlier merge. It gives
new images for those that change, and leaves those that it is given alone."""


class DatasetStore(RunHistory):
    """All datasets of one database: an SQLite file on a local disk, or PostgreSQL for several machines.

    The tables are made, or brought up to date, at first use. Every write of a dataset waits for the writes
    before it, and is done wholly or, if anything fails, not at all. A store keeps no connection open.

    :param url: ``sqlite:////path/to/file.db``, the path itself, or ``postgresql://user:password@host/db``.
    :raises DatasetStoreError: by every method too, if the store cannot be reached, read or written.
    """

    # Datasets

    def create(self, name: str, zarr_dir: str, images: Iterable[Image] = ()) -> Dataset:
        """Add a dataset.

        :raises DatasetError: if there is one of that name, or an image breaks the rules of an image list.
        """
        return self._add(_checked(name, zarr_dir, images), "created", replace=False)

    def get_or_create(self, name: str, zarr_dir: str) -> Dataset:
        """The dataset of that name, which is added, without images, if it is new.

        :raises DatasetError: if it has another ``zarr_dir``.
        """
        file = _checked(name, zarr_dir)
        with self._reading() as connection:  # mostly it is there, and no writer need be waited for
            head = datasets.find(connection, file.name)
        if head is None:
            with self._writing() as connection:
                if datasets.add(connection, file.name, file.zarr_dir):
                    return datasets.set_images(connection, file, "created")
        with self._reading() as connection:
            datasets.check_zarr_dir(datasets.require(connection, file.name), file.zarr_dir)
            return datasets.describe(connection, file.name)

    def get(self, name: str) -> Dataset:
        """The dataset of that name, without its images.

        :raises DatasetNotFoundError: if there is none. So do all methods below that take a name.
        """
        with self._reading() as connection:
            return datasets.describe(connection, name)

    def list_datasets(self) -> list[Dataset]:
        """All datasets, by name."""
        with self._reading() as connection:
            return datasets.describe_all(connection, sa.true())

    def delete(self, name: str) -> None:
        """Remove the dataset with all its versions and statuses; no file of an image is touched."""
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            connection.execute(sa.delete(dataset).where(dataset.c.id == head.id))

    def export(self, name: str, version: int | None = None) -> dict[str, Any]:
        """The dataset as Fractal exchanges it: name, zarr_dir and image list."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return dump_dataset(DatasetFile(head.name, head.zarr_dir, _images(connection, head, version)))

    def import_dataset(self, data: dict[str, Any], *, replace: bool = False) -> Dataset:
        """Add a dataset from an export.

        :param replace: where there is one of that name, make the images its next version. What steps have made
            or edited there that is now lacking, or otherwise, is pending again.
        :raises DatasetError: if the data break the rules, or the name is taken.
        """
        return self._add(parse_dataset(data), "imported", replace=replace)

    def _add(self, file: DatasetFile, what: VersionOrigin, *, replace: bool) -> Dataset:
        with self._writing() as connection:
            if not datasets.add(connection, file.name, file.zarr_dir):
                if not replace:
                    raise DatasetError(
                        f"There is a dataset {file.name!r} already: choose another name, or delete it first."
                    )
                datasets.check_zarr_dir(datasets.require(connection, file.name, lock=True), file.zarr_dir)
            return datasets.set_images(connection, file, what)

    # Image lists

    def images(self, name: str, version: int | None = None) -> list[Image]:
        """The image list of a version (default: the newest), in the order in which images were added.

        :raises DatasetNotFoundError: if the dataset has no such version.
        """
        with self._reading() as connection:
            return _images(connection, datasets.require(connection, name), version)

    def snapshot(self, name: str) -> Snapshot:
        """The newest version, its image list, and the number of merges so far, all of the same moment."""
        with self._reading() as connection:
            head = datasets.require(connection, name)
            return Snapshot(head.version, _images(connection, head), head.merges)

    def merge(
        self,
        name: str,
        step: StepRun,
        change: Change,
        statuses: Sequence[ImageStatus] = (),
        *,
        selected_at: int | None = None,
        version: int | None = None,
        announce: bool = False,
    ) -> Merged:
        """Apply a step's change to the image list, and record its statuses, in one transaction.

        Merging the same step of the same run again starts from the list as it was before that step, as long
        as no other has merged since; else from the newest list, knowing what the step has removed already.

        :param change: may raise: then nothing is written, and its error goes through.
        :param statuses: of the images that the step worked on.
        :param selected_at: the ``mark`` of the snapshot that they were selected from.
        :param version: the version of that snapshot.
        :param announce: whether the caller announces what has changed since the last time.
        :raises DatasetConflictError: if another run, a restore or an import has changed images of this step
            since then, as far as ``selected_at`` and ``version`` are given: then nothing is written, either.
            Not if this very merge is done already, by a try of the task that died: then nothing is left to do.
        """
        selected = {"selected_at": selected_at, "version": version}
        try:
            return self._merge(name, step, change, statuses, selected, announce=announce)
        except DatasetConflictError:
            done = None if selected_at is None else self._merged_before(name, step, statuses, selected_at)
            if done is None:
                raise
            return done

    def _merge(
        self,
        name: str,
        step: StepRun,
        change: Change,
        statuses: Sequence[ImageStatus],
        selected: dict[str, int | None],
        *,
        announce: bool,
    ) -> Merged:
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            with collector_paused():  # from here on no other writer is waited for
                own_id = step_run_id(connection, head, step)
                base, removed = merge_base(connection, head, own_id)
                newest = versions.read_rows(connection, head)
                rows = newest if base == head.version else versions.read_rows(connection, head, base)
                before = to_images(rows)
                after = change(list(before), removed)
                placed = versions.place(after, list(zip(rows, before, strict=True)), newest, head)
                merged = versions.write_version(connection, head, newest, placed, "merged", own_id)
                inputs = {status.zarr_url for status in statuses}
                writes = find_writes(before, after, inputs, merged)
                refuse_conflict(connection, head, step, inputs | writes.keys(), **selected)
                number = count_merge(connection, head, [own_id])
                since = announce_merge(connection, head, own_id, number, announce=announce)
                write_statuses(connection, own_id, statuses, number)
                record_writes(connection, own_id, writes, number)
        written = sum(kind != "removed" for kind in writes.values())
        return replace(merged, merge=number, since=since, written=written)

    def _merged_before(
        self, name: str, step: StepRun, statuses: Sequence[ImageStatus], selected_at: int
    ) -> Merged | None:
        """A merge that was done already; what it has to tell is left to the next event."""
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            found = merged_before(connection, head, step, statuses, selected_at)
            if found is None:
                return None
            own_id, number = found
            since = announced_since(connection, head, own_id)
            set_announced(connection, head, since)
            return Merged(head.version, [], [], [], number, since)

    # Versions

    def versions(self, name: str) -> list[Version]:
        """All versions of the dataset, oldest first: when, by whom, and how much changed."""
        with self._reading() as connection:
            return datasets.list_versions(connection, datasets.require(connection, name))

    def diff(self, name: str, a: int, b: int) -> Diff:
        """What differs from version ``a`` to version ``b``.

        :raises DatasetNotFoundError: if the dataset has no such version.
        """
        with self._reading() as connection:
            head = datasets.require(connection, name)
            for version in (a, b):
                datasets.check_version(head, version)
            return versions.compare(connection, head, a, b)

    def restore(self, name: str, version: int) -> int:
        """Make an earlier image list the newest again, as a new version, whose number it returns.

        What the steps computed that had changed the list since does not stand any more.

        :raises DatasetNotFoundError: if the dataset has no such version.
        """
        with self._writing() as connection:
            head = datasets.require(connection, name, lock=True)
            datasets.check_version(head, version)
            newest = versions.read_rows(connection, head)
            rows = versions.read_rows(connection, head, version)
            discard_later(connection, head, version)
            return versions.write_version(connection, head, newest, rows, "restored").version


def _checked(name: str, zarr_dir: str, images: Iterable[Image] = ()) -> DatasetFile:
    """Hold a dataset made in Python to the same rules as one from a file."""
    listed = [dump_image(image) for image in images]
    return parse_dataset({"name": name, "zarr_dir": zarr_dir, "images": listed})


def _images(connection: sa.Connection, head: Head, version: int | None = None) -> list[Image]:
    if version is not None:
        datasets.check_version(head, version)
    return to_images(versions.read_rows(connection, head, version))
