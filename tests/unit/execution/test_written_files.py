"""Files that a resource writes and reads for a run: here, and where a cluster's files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.resource import Resource, load_resource_config
from fractal_airflow.execution.slurm.local_transport import LocalTransport
from fractal_airflow.execution.slurm.resource import SlurmResource


@pytest.fixture(params=["local", "slurm"])
def resource(request: pytest.FixtureRequest, tmp_path: Path) -> Resource:
    """A resource whose files are on this machine, one way or the other."""
    if request.param == "local":
        return LocalResource(tmp_path)
    config = load_resource_config({"type": "slurm", "work_dir": str(tmp_path), "jobs_runner_config": {}})
    return SlurmResource(config, LocalTransport())


def test_files_are_written_into_a_new_folder_and_written_over(resource: Resource, tmp_path: Path) -> None:
    folder = tmp_path / "a run's $(folder)" / "ünicode"

    resource.write_files(str(folder), {"report.md": b"first", "b.txt": b"\0b"})
    resource.write_files(str(folder), {"report.md": b"second"})

    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "report.md": b"second",
        "b.txt": b"\0b",
    }
    assert resource.read_file(str(folder / "report.md")) == b"second"


def test_a_file_that_is_not_there_is_none(resource: Resource, tmp_path: Path) -> None:
    assert resource.read_file(str(tmp_path / "missing" / "report.md")) is None


def test_what_cannot_be_written_is_named(resource: Resource, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    with pytest.raises(WorkFolderError, match=r"taken.* cannot be written"):
        resource.write_files(str(tmp_path / "taken"), {"report.md": b""})
