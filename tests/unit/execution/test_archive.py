"""The runner as one file, which needs nothing but a Python."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fractal_airflow.execution.archive import RUNNER_FILE, runner_archive, write_runner
from fractal_airflow.execution.run_folder import attempt_outcomes
from fractal_airflow.execution.units import Work
from tests.unit.execution.batches import UNIT_TASK, open_batch


def sources(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


@pytest.mark.parametrize("warm_start", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("name", ["plain", "with space", "quo'te", "ünï-码", "a%20b"])
def test_the_runner_is_one_file_that_needs_no_installation(
    tmp_path: Path, name: str, warm_start: bool
) -> None:
    folder = tmp_path / name
    units = [{"output": {}, "report": str(tmp_path / f"{index}.json")} for index in range(3)]
    attempt = open_batch(folder, Work(UNIT_TASK, units, warm_start=warm_start))
    isolated = [sys.executable, "-I", "-S", RUNNER_FILE, str(attempt.folder)]
    subprocess.run(isolated, cwd=write_runner(folder).parent, env={}, check=True)
    assert [outcome.status for outcome in attempt_outcomes(attempt.folder, 3)] == ["done"] * 3
    report = json.loads((tmp_path / "2.json").read_text())
    assert ("_fractal_runner.guard" in report["modules"]) == warm_start
    assert not [entry for entry in report["path"] if RUNNER_FILE in entry]


def test_the_runner_imports_the_standard_library_alone(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import _fractal_runner.guard; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(write_runner(tmp_path))]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    known = {*sys.stdlib_module_names, "__main__", "_fractal_runner"}
    assert {name.partition(".")[0] for name in modules} <= known


def test_the_runner_is_written_in_python_3_9(tmp_path: Path) -> None:
    for text in sources(write_runner(tmp_path)).values():
        ast.parse(text, feature_version=(3, 9))


def test_modules_of_a_task_cannot_be_taken_for_the_runners_own(tmp_path: Path) -> None:
    names = {name.partition("/")[0] for name in sources(write_runner(tmp_path))}
    assert names == {"__main__.py", "_fractal_runner"}


def test_the_same_sources_give_the_same_file() -> None:
    first = runner_archive()
    runner_archive.cache_clear()
    assert runner_archive() == first


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / RUNNER_FILE).write_text("of an older version")
    assert write_runner(tmp_path).read_bytes() == runner_archive()
    assert [entry.name for entry in tmp_path.iterdir()] == [RUNNER_FILE]
