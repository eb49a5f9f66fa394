"""Where the provenance of a run is written: below the dataset's ``zarr_dir``, wherever that is."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fractal_airflow.hooks.fractal import FractalHook

if TYPE_CHECKING:
    from fractal_airflow.execution.resource import Resource
    from fractal_airflow.provenance.folder import Files


class Place(ABC):
    """A file system that has a ``zarr_dir``."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """Return a file; None where there is none."""

    @abstractmethod
    def write(self, folder: str, files: Files) -> None:
        """Write a folder of files, in the place of those that are there."""


class ThisMachine(Place):
    """The Airflow worker's own file system: a folder is there as a whole or not at all."""

    def read(self, path: str) -> bytes | None:
        """Return a file; None where there is none."""
        return Path(path).read_bytes() if Path(path).exists() else None

    def write(self, folder: str, files: Files) -> None:
        """Write a folder of files, in the place of the one that is there."""
        from fractal_airflow.provenance.folder import write_folder

        write_folder(Path(folder), files)


class OfResource(Place):
    """The file system of a cluster, written by the user whose jobs run there."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def read(self, path: str) -> bytes | None:
        """Return a file; None where there is none."""
        return self._resource.read_file(path)

    def write(self, folder: str, files: Files) -> None:
        """Write files one after the other."""
        for name, content in files:
            self._resource.write_files(folder, {name: content})


class ObjectStorage(Place):
    """What Airflow's object storage reaches, with the provider of its scheme."""

    def read(self, path: str) -> bytes | None:
        """Return a file; None where there is none."""
        target = self._path(path)
        return target.read_bytes() if target.exists() else None

    def write(self, folder: str, files: Files) -> None:
        """Write objects one after the other."""
        target = self._path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            (target / name).write_bytes(content)

    @staticmethod
    def _path(path: str) -> Any:
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(path)


def place_of(zarr_dir: str, resource: str) -> Place:
    """
    Return the place of a ``zarr_dir``.

    :param resource: where the units ran that wrote there: a cluster's folders may be on no other machine.
    """
    if "://" in zarr_dir:
        return ObjectStorage()
    found = FractalHook(resource).get_conn()
    return ThisMachine() if found.type == "local" else OfResource(found)


def own_folder(place: Place, folders: Iterable[str], identifier: str) -> str:
    """
    Return the first of these folders that has no other run's crate.

    Two DAGs on one schedule give their runs the same name, and may work in one ``zarr_dir``.
    """
    from fractal_airflow.provenance.crate import METADATA_FILE, identifier_of

    folder = ""
    for folder in folders:
        metadata = place.read(posixpath.join(folder, METADATA_FILE))
        if metadata is None or identifier_of(metadata) == identifier:
            break
    return folder
