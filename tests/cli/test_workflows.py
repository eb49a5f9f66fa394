"""``airflow fractal workflow check`` and ``airflow fractal package show``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fractal_airflow.cli.workflows import parse_packages
from fractal_airflow.exceptions import WorkflowError
from tests.cli.conftest import Call
from tests.services.airflow import FAKE_TASKS, AirflowHome

MANIFEST = FAKE_TASKS / "__FRACTAL_MANIFEST__.json"


def test_check_finds_nothing_wrong(airflow: AirflowHome, call: Call) -> None:
    workflow = airflow.write_workflow(
        "good", {"name": "Measure", "args_parallel": {"note": "{{ ds }}", "threshold": "{{ 3 }}"}}
    )

    ended = call("workflow", "check", str(workflow), "--package", str(FAKE_TASKS))

    assert ended == (0, f"{workflow}: 1 task, nothing wrong\n", "")


def test_check_names_everything_that_is_wrong_at_once(airflow: AirflowHome, call: Call) -> None:
    workflow = airflow.write_workflow(
        "bad",
        {"name": "Segment"},
        {"name": "Measure", "args_parallel": {"threshold": -1, "colour": "red", "zarr_url": "/x"}},
        {"name": "Project", "type_filters": {"is_3D": False}},
        {"name": "Measure", "meta_parallel": {"account": "me"}},
    )

    ended = call("workflow", "check", str(workflow), "--package", str(FAKE_TASKS))

    assert (ended.code, ended.out) == (1, "")
    lines = ended.err.splitlines()
    assert len(lines) >= 5
    assert all(line.startswith("error: ") for line in lines)
    for text in ("Segment", "threshold", "colour", "zarr_url", "is_3D", "account"):
        assert text in ended.err


def test_check_names_bad_files_together(airflow: AirflowHome, call: Call) -> None:
    workflow = airflow.home / "broken.json"
    workflow.write_text("{", encoding="utf-8")

    ended = call("workflow", "check", str(workflow), "--package", "/no/such", "--package", "/nor/this")

    assert ended.code == 1
    for name in (str(workflow), "/no/such", "/nor/this"):
        assert name in ended.err


def test_package_show(call: Call) -> None:
    (first, *rest) = json.loads(call("package", "show", str(MANIFEST), "--output", "json").out)
    table = call("package", "show", str(FAKE_TASKS)).out

    assert (first["name"], first["type"], first["output_types"]) == (
        *("Make Plate", "converter_non_parallel"),
        {"is_3D": True},
    )
    for task in (first, *rest):
        assert task["name"] in table
    assert "is_3D=yes" in table
    assert table.startswith("fake_tasks 1.0.0, run by ")


def test_package_show_names_what_is_wrong(airflow: AirflowHome, call: Call) -> None:
    ended = call("package", "show", str(airflow.home))

    assert ended.code == 1
    assert str(airflow.home) in ended.err
    assert "__FRACTAL_MANIFEST__.json" in ended.err


@pytest.mark.parametrize("name", ["tasks", "a folder", "with:colon", "with:colon:2", "ünï'\"$(x)"])
@pytest.mark.parametrize("manifest", [False, True])
def test_a_package_is_a_folder_or_a_manifest_with_or_without_a_python(
    tmp_path: Path, name: str, manifest: bool
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file = folder / MANIFEST.name
    file.write_bytes(MANIFEST.read_bytes())
    text = str(file if manifest else folder)

    (plain, with_python) = parse_packages([text, f"{text}:{sys.executable}"])

    assert plain.directory == with_python.directory == folder
    assert plain.python == "python3"
    assert with_python.python == sys.executable


def test_a_relative_python_is_meant_from_here_and_a_bare_name_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")

    pythons = [
        parse_packages([f"{FAKE_TASKS}:{python}"])[0].python
        for python in ("env/bin/python", "~/env/bin/python", "python3.11", "")
    ]

    assert pythons == [
        f"{tmp_path}/env/bin/python",
        "/home/somebody/env/bin/python",
        "python3.11",
        "python3",
    ]


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(WorkflowError, match=r"/no/such.*__FRACTAL_MANIFEST__"):
        parse_packages(["/no/such:python3"])
