"""Old run folders go; what is young, in use, to be kept, or not a run's, stays."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from fractal_airflow.execution.run_folder import run_folder
from fractal_airflow.execution.runner.cleaning import clean

DAY = 86400.0
NOW = time.time()


def make_run(work_dir: Path, dag_id: str, run_id: str, *, days_old: float) -> Path:
    """Make a run with two steps; return its folder."""
    for order, task in enumerate(["Convert", "Measure the cells"]):
        attempt = run_folder(work_dir, dag_id, run_id, order, task) / f"0000-{order:012x}" / "1"
        attempt.mkdir(parents=True)
        (attempt / "results.jsonl").write_bytes(bytes(10_000))
        (attempt / "runner.lock").touch()
    run = attempt.parent.parent.parent
    age(run, days_old)
    return run


def age(folder: Path, days: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (NOW - days * DAY,) * 2, follow_symlinks=False)


def removed(work_dir: Path, *, dry_run: bool = False, **more: list[str]) -> list[str]:
    """Clean away what is older than 30 days; return the runs that went."""
    ended = clean(str(work_dir), more.pop("keep", []), NOW - 30 * DAY, dry_run=dry_run, **more)
    assert ended["failed"] == []
    return [os.path.relpath(each["folder"], work_dir) for each in ended["removed"]]


def test_only_old_runs_go_and_their_space_is_counted(tmp_path: Path) -> None:
    old = make_run(tmp_path, "nuclei", "monday", days_old=31)
    young = make_run(tmp_path, "nuclei", "tuesday", days_old=29)

    ended = clean(str(tmp_path), [], NOW - 30 * DAY, dry_run=False)

    (gone,) = ended["removed"]
    assert gone["folder"] == str(old)
    assert 20_000 <= gone["bytes"] < 200_000
    assert (old.exists(), young.exists()) == (False, True)


def test_a_run_with_its_reports_goes_as_a_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, "nuclei", "monday", days_old=31)
    for name in ("report.md", "second_workflow.report.md", ".report.md.0123abcd.part"):
        (run / name).touch()
    age(run, 31)

    assert removed(tmp_path) == ["nuclei/monday"]
    assert not run.exists()


def test_a_folder_of_reports_alone_may_be_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "nuclei" / "monday").mkdir(parents=True)
    (tmp_path / "nuclei" / "monday" / "report.md").touch()
    age(tmp_path, 31)

    assert removed(tmp_path) == []


def test_a_dry_run_tells_the_same_and_removes_nothing(tmp_path: Path) -> None:
    old = make_run(tmp_path, "nuclei", "monday", days_old=31)
    before = sorted(tmp_path.rglob("*"))

    assert removed(tmp_path, dry_run=True) == ["nuclei/monday"]

    assert sorted(tmp_path.rglob("*")) == before
    assert removed(tmp_path) == ["nuclei/monday"]
    assert not old.exists()


def test_a_run_is_as_young_as_the_newest_file_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "nuclei", "long", days_old=100)
    log = next(run.rglob("results.jsonl"))
    os.utime(log, (NOW, NOW))

    assert removed(tmp_path) == []
    assert run.exists()


def test_a_run_to_keep_stays_whatever_its_age(tmp_path: Path) -> None:
    make_run(tmp_path, "nuclei", "monday", days_old=31)
    make_run(tmp_path, "cells", "monday", days_old=31)

    assert removed(tmp_path, keep=["nuclei/monday"]) == ["cells/monday"]


def test_a_run_in_use_stays(tmp_path: Path) -> None:
    with_job = make_run(tmp_path, "nuclei", "with a job", days_old=31)
    with_runner = make_run(tmp_path, "nuclei", "with-a-runner", days_old=31)
    lock = next(with_runner.rglob("runner.lock"))
    job = next(with_job.rglob("results.jsonl")).parent

    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = clean(str(tmp_path), [], NOW - 30 * DAY, dry_run=False, busy=[str(job)])

    assert ended == {"removed": [], "in_use": [str(with_job), str(with_runner)], "failed": []}
    assert len(removed(tmp_path)) == 2


def test_what_is_not_a_run_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plate" / "raw" / "00_images").mkdir(parents=True)
    (tmp_path / "plate" / "raw" / "00_images" / "image.tif").touch()
    (tmp_path / "plate" / "empty").mkdir()
    (tmp_path / "papers" / "nature").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".slots" / "a").mkdir(parents=True)
    mixed = make_run(tmp_path, "nuclei", "with-notes", days_old=0)
    (mixed / "notes.txt").touch()
    elsewhere = make_run(tmp_path / ".elsewhere", "nuclei", "monday", days_old=0)
    (tmp_path / "nuclei" / "linked").symlink_to(elsewhere)
    age(tmp_path, 100)

    assert removed(tmp_path) == []


def test_a_link_in_a_run_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.touch()
    run = make_run(tmp_path, "nuclei", "monday", days_old=31)
    attempt = next(run.rglob("1"))
    (attempt / "data").symlink_to(data)
    age(run, 31)

    assert removed(tmp_path) == ["nuclei/monday"]
    assert data.exists()


def test_the_last_run_of_a_dag_takes_its_folder_along(tmp_path: Path) -> None:
    make_run(tmp_path, "nuclei", "monday", days_old=31)
    make_run(tmp_path, "cells", "monday", days_old=31)
    make_run(tmp_path, "cells", "tuesday", days_old=1)

    removed(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_an_interrupted_cleaning_is_ended_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".removed" / "0123").mkdir(parents=True)

    assert removed(tmp_path) == []

    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_that_is_not_there_yet_has_nothing_to_clean(tmp_path: Path) -> None:
    assert removed(tmp_path / "none") == []


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make_run(tmp_path, "nuclei", name, days_old=31) for name in ("monday", "tuesday")]
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if source == str(runs[0]):
            raise PermissionError(13, "Permission denied", source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    ended = clean(str(tmp_path), [], NOW - 30 * DAY, dry_run=False)

    assert ended["failed"] == [
        {"folder": str(runs[0]), "error": f"Permission denied ({runs[0]})"},
    ]
    assert [each["folder"] for each in ended["removed"]] == [str(runs[1])]
