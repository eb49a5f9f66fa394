from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.run_folder import (
    Attempt,
    attempt_outcomes,
    batch_folder,
    open_attempt,
    run_folder,
    safe_name,
)
from fractal_airflow.execution.units import Work
from tests.services.disks import run_on_read_only_disk, run_on_tiny_disk

WORK = Work(("python", "task.py"), [{"zarr_url": "/d/a"}, {"zarr_url": "/d/b"}])


def test_plain_names_are_folders_of_the_same_name(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "my_dag", "run-1", 3, "Threshold")
    assert folder == tmp_path / "my_dag" / "run-1" / "03_Threshold"


def test_names_with_other_characters_stay_readable() -> None:
    assert safe_name("manual__2026-11-21T08:25:33+00:00").startswith("manual__2026-11-21T08-25-33+00-00~")


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a/b", "../../etc", "$(reboot)", "a\nb", "ä" * 300]
)
def test_dangerous_names_are_made_safe(text: str) -> None:
    name = safe_name(text)
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert name.isprintable()
    assert 0 < len(name) <= 255


@given(st.text(), st.text())
def test_two_texts_never_share_a_folder(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_a_safe_name_of_a_safe_name_is_another(tmp_path: Path) -> None:
    assert safe_name(safe_name("a/b")) != safe_name("a/b")


def test_a_batch_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    other = Work(WORK.command, WORK.units[:1])
    assert batch_folder(tmp_path, 0, WORK) == batch_folder(tmp_path, 0, WORK)
    assert batch_folder(tmp_path, 0, WORK) != batch_folder(tmp_path, 0, other)


def test_a_new_attempt_holds_everything_that_the_runner_needs(tmp_path: Path) -> None:
    attempt = open_attempt(tmp_path / "batch", WORK, "first")
    assert attempt == Attempt(tmp_path / "batch" / "1", 2, adopted=False)
    batch = json.loads((attempt.folder / "batch.json").read_text(encoding="utf-8"))
    assert batch["command"] == ["python", "task.py"]
    assert batch["count"] == 2
    assert json.loads((attempt.folder / "1-args.json").read_text(encoding="utf-8")) == {"zarr_url": "/d/b"}


def test_a_retry_adopts_an_open_attempt(tmp_path: Path) -> None:
    open_attempt(tmp_path, WORK, "first")
    retry = open_attempt(tmp_path, WORK, "first")
    assert retry.folder == tmp_path / "1"
    assert retry.adopted


def test_a_retry_of_the_same_task_instance_adopts_what_it_took_itself(tmp_path: Path) -> None:
    open_attempt(tmp_path, WORK, "first").take()
    assert open_attempt(tmp_path, WORK, "first").folder == tmp_path / "1"


def test_clearing_a_finished_task_instance_starts_from_scratch(tmp_path: Path) -> None:
    open_attempt(tmp_path, WORK, "first").take()
    cleared = open_attempt(tmp_path, WORK, "second")
    assert cleared.folder == tmp_path / "2"
    assert not cleared.adopted
    assert open_attempt(tmp_path, WORK, "second").folder == tmp_path / "2"


def test_clearing_a_task_instance_that_has_not_ended_adopts_its_attempt(tmp_path: Path) -> None:
    open_attempt(tmp_path, WORK, "first")
    cleared = open_attempt(tmp_path, WORK, "second")
    assert cleared.folder == tmp_path / "1"
    cleared.take()
    assert open_attempt(tmp_path, WORK, "second").folder == tmp_path / "1"
    assert open_attempt(tmp_path, WORK, "third").folder == tmp_path / "2"


def test_an_adopted_attempt_runs_as_is_asked_now(tmp_path: Path) -> None:
    open_attempt(tmp_path, WORK, "first")
    attempt = open_attempt(tmp_path, Work(WORK.command, WORK.units, parallel=3, warm_start=False), "first")
    batch = json.loads((attempt.folder / "batch.json").read_text(encoding="utf-8"))
    assert (batch["parallel"], batch["warm_start"]) == (3, False)


def test_processes_that_open_an_attempt_at_once_share_one(tmp_path: Path) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(open_attempt(tmp_path, WORK, "first").folder))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "1"] * 8
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


def test_units_without_a_result_failed_in_their_job(tmp_path: Path) -> None:
    attempt = open_attempt(tmp_path, WORK, "first")
    (attempt.folder / "results.jsonl").write_text('{"index": 0, "status": "done"}\n{"index": 1, "sta')
    done, lost = attempt_outcomes(attempt.folder, 2)
    assert done.status == "done"
    assert lost.error is not None
    assert lost.error.kind == "job"


def test_a_rejected_output_makes_its_unit_fail(tmp_path: Path) -> None:
    attempt = open_attempt(tmp_path, WORK, "first")
    (attempt.folder / "results.jsonl").write_text('{"index": 0, "status": "done", "output": []}')
    attempt.reject(0, "the output is a list")
    (outcome, _) = attempt_outcomes(attempt.folder, 2)
    assert outcome.error is not None
    assert outcome.error.kind == "output"
    assert "the output is a list" in outcome.error.message


def test_a_work_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ResourceError, match=r"work folder .*file/batch.* cannot be written.*set another work_dir"
    ):
        open_attempt(tmp_path / "file" / "batch", WORK, "first")


OPEN = """
import sys
from pathlib import Path
from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.run_folder import open_attempt
from fractal_airflow.execution.units import Work
units = [{"zarr_url": "x" * 5000} for _ in range(100)]
try:
    open_attempt(Path(sys.argv[1]) / "batch", Work(("python", "task.py"), units), "first")
except ResourceError as error:
    print(error)
print(sorted(path.name for path in Path(sys.argv[1]).glob("batch/*")))
"""


def test_a_full_disk_is_named_and_leaves_no_half_attempt(tmp_path: Path) -> None:
    output = run_on_tiny_disk(tmp_path, 100, OPEN, str(tmp_path))
    assert f"{tmp_path / 'batch'} cannot be written: No space left on device" in output
    assert output.endswith("[]\n")


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    output = run_on_read_only_disk(tmp_path, OPEN, str(tmp_path))
    assert f"{tmp_path / 'batch'} cannot be written: Read-only file system" in output
