"""What is read of a run's folder: logs and the units of a batch, on this machine and through the cluster program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.resource import Resource, make_resource
from fractal_airflow.execution.run_folder import batch_folder, open_attempt, run_folder
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, run_batch


@pytest.fixture(params=["local", "slurm"])
def resource(request: pytest.FixtureRequest, tmp_path: Path) -> Resource:
    """A resource of each kind; what is read needs no SLURM."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    return make_resource({"type": request.param, "work_dir": str(work_dir), "python": sys.executable})


def work_dir(resource: Resource) -> Path:
    return Path(resource.work_dir)


def test_a_short_log_is_read_whole_and_of_a_long_one_whole_lines_of_its_end(resource: Resource) -> None:
    log = work_dir(resource) / "0-log.txt"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff and \x00 at the end")

    assert resource.read_text(str(log), 10_000).splitlines()[0] == "line 0"
    end = resource.read_text(str(log), 50).splitlines()
    assert end == [
        "[… 766 bytes left out …]",
        "line 97",
        "line 98",
        "line 99",
        "\ufffd and \ufffd at the end",
    ]


def test_a_log_that_is_gone_is_not_found(resource: Resource) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .*/gone/1/0-log.txt on "):
        resource.read_text(f"{resource.work_dir}/gone/1/0-log.txt", 100)


@pytest.mark.parametrize("way", ["elsewhere", "up", "a link", "a linked folder", "beside"])
def test_nothing_outside_of_the_work_folder_is_read(resource: Resource, way: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret" / "0-log.txt"
    secret.parent.mkdir()
    secret.write_text("secret")
    (tmp_path / "work2").mkdir()
    (tmp_path / "work2" / "0-log.txt").write_text("secret")
    (work_dir(resource) / "0-log.txt").symlink_to(secret)
    (work_dir(resource) / "linked").symlink_to(secret.parent)
    path = {
        "elsewhere": str(secret),
        "up": f"{resource.work_dir}/../secret/0-log.txt",
        "a link": f"{resource.work_dir}/0-log.txt",
        "a linked folder": f"{resource.work_dir}/linked/0-log.txt",
        "beside": f"{resource.work_dir}2/0-log.txt",
    }[way]

    with pytest.raises(WorkFolderError, match="does not lie in the resource's work folder"):
        resource.read_text(path, 100)


def test_what_is_no_file_is_not_waited_for(resource: Resource) -> None:
    pipe = work_dir(resource) / "0-log.txt"
    os.mkfifo(pipe)

    with pytest.raises(WorkFolderError, match="it is no file"):
        resource.read_text(str(pipe), 100)


def test_the_units_of_a_batch_are_those_of_its_newest_attempt(resource: Resource) -> None:
    url = "/data/plate.zarr/B/03/0"
    units = [{"zarr_url": url, "say": "hello"}, {"zarr_url": f"{url}_mip", "exit": 3}]
    old = run_batch(work_dir(resource), units, generation="first")
    for age, path in enumerate([old.attempt.folder, *old.attempt.folder.iterdir()]):
        os.utime(path, (age, age))
    step_folder = str(old.attempt.folder.parent.parent)
    (done, failed) = _units(resource, step_folder)
    assert (done.zarr_url, done.status, done.error) == (url, "done", None)
    assert (failed.zarr_url, failed.status) == (f"{url}_mip", "failed")
    assert failed.error == "the task ended with exit code 3"
    assert resource.read_text(done.log, 1000).endswith("hello\n")
    assert done.seconds is not None

    work = Work(
        UNIT_TASK, [{"zarr_url": "/data/other"}]
    )  # a cleared select gave other images to the instance
    attempt = open_attempt(batch_folder(Path(step_folder), 0, work), work, "second")

    assert [(unit.zarr_url, unit.status) for unit in _units(resource, step_folder)] == [
        ("/data/other", "waiting")
    ]
    (attempt.folder / "0-log.txt").touch()
    assert [unit.status for unit in _units(resource, step_folder)] == ["started"]


def test_the_halves_of_a_compound_task_are_told_apart(resource: Resource) -> None:
    step_folder = run_folder(resource.work_dir, "nuclei", "manual__1", 2, "Project")
    init = Work(UNIT_TASK, [{"zarr_dir": "/data", "zarr_urls": ["/data/a"]}])
    compute = Work(UNIT_TASK, [{"zarr_url": "/data/a", "init_args": {}}])
    for work in (compute, init):
        open_attempt(batch_folder(step_folder, 0, work), work, "first")

    assert [unit.zarr_url for unit in _units(resource, str(step_folder))] == ["/data/a"]
    assert [unit.zarr_url for unit in _units(resource, str(step_folder), whole_list=True)] == [None]


def test_what_has_not_begun_or_was_removed_has_no_units(resource: Resource) -> None:
    assert resource.read_batch(f"{resource.work_dir}/dag/run/00_step", 0, whole_list=False) is None


def _units(resource: Resource, step_folder: str, *, whole_list: bool = False):  # type: ignore[no-untyped-def]
    found = resource.read_batch(step_folder, 0, whole_list=whole_list)
    assert found is not None
    return found.units
