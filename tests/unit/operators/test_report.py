from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fractal_airflow.execution.units import Outcome, UnitError
from fractal_airflow.operators.report import unit_report, write_report
from fractal_airflow.operators.step_units import UnitEnd
from tests.unit.workflows import step

DONE = UnitEnd(["/a"], False, Outcome("done"))
FAILED = UnitEnd(["/b"], False, Outcome("failed", error=UnitError("task", "exit code 1")))
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="my dag", run_id="run/1")}


def test_a_unit_says_its_images_and_how_it_ended() -> None:
    assert unit_report(DONE) == {"zarr_urls": ["/a"], "status": "done"}
    assert unit_report(FAILED) == {"zarr_urls": ["/b"], "status": "failed", "error": "exit code 1"}


def test_where_nothing_was_merged_every_unit_failed() -> None:
    assert unit_report(DONE, "updated twice") == {
        "zarr_urls": ["/a"],
        "status": "failed",
        "error": "updated twice",
    }


def test_a_report_is_written_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__REPORT_DIR", str(tmp_path / "reports"))

    write_report(CONTEXT, step("Measure"), [DONE, FAILED], ValueError("1 of 2 units failed"), merged=True)

    (file,) = (tmp_path / "reports").rglob("*.json")
    assert (file.name, file.parents[2]) == ("0.json", tmp_path / "reports")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert (report["index"], report["name"], report["status"]) == (0, "Measure", "failed")
    assert report["error"] == "1 of 2 units failed"
    assert [unit["status"] for unit in report["units"]] == ["done", "failed"]


def test_where_it_cannot_be_written_the_step_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__REPORT_DIR", str(tmp_path / "file" / "reports"))

    write_report(CONTEXT, step("Measure"), [DONE], None, merged=True)

    assert "could not be written into [fractal_airflow] report_dir" in caplog.text
    assert str(tmp_path / "file") in caplog.text


def test_without_a_folder_no_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    write_report(CONTEXT, step("Measure"), [DONE], None, merged=True)

    assert list(tmp_path.iterdir()) == []
