"""What is read of a run's folder: logs and the units of a batch, on this machine and through the cluster program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution.resource import Resource, make_resource
from fractal_airflow.execution.run_folder import batch_folder, open_attempt, run_folder
from fractal_airflow.execution.runner import reading
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, run_batch


@pytest.fixture(params=["local", "slurm"])
def resource(request: pytest.FixtureRequest, tmp_path: Path) -> Resource:
    """A resource of each kind; what is read needs no SLURM."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    return make_resource({"type": request.param, "work_dir": str(work_dir), "python": sys.executable})


RUN = "dag/manual__1"


def work_dir(resource: Resource) -> Path:
    return Path(resource.work_dir)


def attempt_folder(resource: Resource, run: str = RUN) -> Path:
    """The folder of an attempt of a run, made."""
    folder = work_dir(resource) / run / "00_Step" / "0000-0123456789ab" / "1"
    folder.mkdir(parents=True)
    return folder


def test_a_short_log_is_read_whole_and_of_a_long_one_whole_lines_of_its_end(resource: Resource) -> None:
    log = attempt_folder(resource) / "0-log.txt"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff and \x00 at the end")

    assert resource.read_text(RUN, str(log), 10_000).splitlines()[0] == "line 0"
    end = resource.read_text(RUN, str(log), 50).splitlines()
    assert end == [
        "[… 766 bytes left out …]",
        "line 97",
        "line 98",
        "line 99",
        "\ufffd and \ufffd at the end",
    ]


def test_a_log_that_is_gone_is_not_found(resource: Resource) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .*/gone/1/0-log.txt on "):
        resource.read_text(RUN, f"{resource.work_dir}/{RUN}/gone/1/0-log.txt", 100)


@pytest.mark.parametrize(
    "way", ["elsewhere", "up", "a link", "a linked folder", "beside", "another run", "a link to another run"]
)
def test_nothing_outside_of_the_folder_of_the_run_is_read(
    resource: Resource, way: str, tmp_path: Path
) -> None:
    own, other = attempt_folder(resource), attempt_folder(resource, "other_dag/manual__1")
    secret = tmp_path / "secret"
    beside = work_dir(resource) / f"{RUN}2"
    for folder in (other, secret, beside):
        folder.mkdir(exist_ok=True)
        (folder / "0-log.txt").write_text("secret")
    (own / "0-log.txt").symlink_to(secret / "0-log.txt")
    (own / "1-log.txt").symlink_to(other / "0-log.txt")
    (own / "linked").symlink_to(secret)
    path = {
        "elsewhere": secret / "0-log.txt",
        "up": work_dir(resource) / ".." / "secret" / "0-log.txt",
        "a link": own / "0-log.txt",
        "a linked folder": own / "linked" / "0-log.txt",
        "beside": beside / "0-log.txt",
        "another run": other / "0-log.txt",
        "a link to another run": own / "1-log.txt",
    }[way]

    with pytest.raises(WorkFolderError, match="does not lie in the folder of its run"):
        resource.read_text(RUN, str(path), 100)


def test_a_run_whose_folder_leads_elsewhere_has_nothing_to_read(resource: Resource) -> None:
    other = attempt_folder(resource, "other_dag/manual__1")
    (other / "0-log.txt").write_text("secret")
    (work_dir(resource) / "dag").symlink_to("other_dag")

    with pytest.raises(WorkFolderError, match="does not lie in the folder of its run"):
        resource.read_text(RUN, str(other / "0-log.txt").replace("other_dag", "dag"), 100)


@pytest.mark.parametrize("swapped", ["1", "0000-0123456789ab", "0-log.txt"])
def test_a_folder_that_is_swapped_for_a_link_after_the_check_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    folder = tmp_path / RUN / "00_Step" / "0000-0123456789ab" / "1"
    secret = tmp_path / "secret" / "1" / "1"
    for each in (folder, secret):
        each.mkdir(parents=True)
        (each / "0-log.txt").write_text(each.parts[-3])
    log, realpath = folder / "0-log.txt", os.path.realpath
    victim = next(path for path in (log, *log.parents) if path.name == swapped)
    same = {"1": secret, "0000-0123456789ab": secret.parent, "0-log.txt": secret / "0-log.txt"}[swapped]

    def swap(path: str) -> str:
        real = realpath(path)
        if path == str(log):
            victim.rename(tmp_path / "away")
            victim.symlink_to(same)
        return real

    monkeypatch.setattr(os.path, "realpath", swap)
    reply = reading.read_text(str(tmp_path), RUN, str(log), 100)

    assert log.read_text() == "secret"
    assert set(reply) == {"problem"}


def test_a_work_folder_that_is_known_by_another_name_is_read(resource: Resource, tmp_path: Path) -> None:
    (attempt_folder(resource) / "0-log.txt").write_text("hello")
    (tmp_path / "moved").symlink_to(work_dir(resource))
    path = f"{tmp_path}/moved/{RUN}/00_Step/0000-0123456789ab/1/0-log.txt"

    assert resource.read_text(RUN, path, 100) == "hello"


def test_what_is_no_file_is_not_waited_for(resource: Resource) -> None:
    pipe = attempt_folder(resource) / "0-log.txt"
    os.mkfifo(pipe)

    with pytest.raises(WorkFolderError, match="it is no file"):
        resource.read_text(RUN, str(pipe), 100)


def test_the_units_of_a_batch_are_those_of_its_newest_attempt(resource: Resource) -> None:
    url = "/data/plate.zarr/B/03/0"
    units = [{"zarr_url": url, "say": "hello"}, {"zarr_url": f"{url}_mip", "exit": 3}]
    old = run_batch(work_dir(resource) / RUN, units, generation="first")
    for age, path in enumerate([old.attempt.folder, *old.attempt.folder.iterdir()]):
        os.utime(path, (age, age))
    step_folder = str(old.attempt.folder.parent.parent)
    (done, failed) = _units(resource, step_folder)
    assert (done.zarr_url, done.status, done.error) == (url, "done", None)
    assert (failed.zarr_url, failed.status) == (f"{url}_mip", "failed")
    assert failed.error == "the task ended with exit code 3"
    assert resource.read_text(RUN, done.log, 1000).endswith("hello\n")
    assert done.seconds is not None
    log = resource.read_log(step_folder, 0, 0, 1000, whole_list=False)
    assert (log or "").endswith("hello\n")
    with pytest.raises(FileNotFoundError, match="7-log"):
        resource.read_log(step_folder, 0, 7, 1000, whole_list=False)

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
    assert resource.read_log(f"{resource.work_dir}/dag/run/00_step", 0, 0, 100, whole_list=False) is None


def test_the_log_of_one_unit_is_read_without_the_files_of_the_others(resource: Resource) -> None:
    work = Work(UNIT_TASK, [{"zarr_url": f"/data/{number}"} for number in range(3)])
    step_folder = work_dir(resource) / RUN / "00_Step"
    folder = open_attempt(batch_folder(step_folder, 0, work), work, "first").folder
    (folder / "2-log.txt").write_text("hello")
    for other in ("1-args.json", "2-args.json", "batch.json"):
        (folder / other).write_text("broken")

    assert resource.read_log(str(step_folder), 0, 2, 1000, whole_list=False) == "hello"


def _units(resource: Resource, step_folder: str, *, whole_list: bool = False):  # type: ignore[no-untyped-def]
    found = resource.read_batch(step_folder, 0, whole_list=whole_list)
    assert found is not None
    return found.units
