"""What can be checked when a DAG file is parsed is checked then: it shows as the file's import error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.services.airflow import FAKE_TASKS, AirflowHome, fake_task

GOOD = {"name": "w", "task_list": [{"task": fake_task("Measure")}]}


def measure(**more: object) -> dict[str, object]:
    return {"name": "w", "task_list": [{"task": fake_task("Measure"), **more}]}


BAD_WORKFLOWS = {
    "not_json": ('{"name": ', ["not_json.json"]),
    "not_there": (None, ["not_there.json"]),
    "unknown_keys": (
        {**measure(colour="red"), "author": "me"},
        ["unknown_keys.json", "author", "task_list", "colour"],
    ),
    "unknown_package": (
        {"name": "w", "task_list": [{"task": {"pkg_name": "other-tasks", "name": "Measure"}}]},
        ["no package 'other-tasks' is loaded; there are: fake_tasks"],
    ),
    "unknown_version": (
        {"name": "w", "task_list": [{"task": {**fake_task("Measure"), "version": "9.9"}}]},
        ["version 9.9 of 'fake_tasks' is not loaded; there are: fake_tasks 1.0.0"],
    ),
    "unknown_task": (
        {"name": "w", "task_list": [{"task": fake_task("Mesure")}]},
        ["no task 'Mesure'", "Make Plate", "Convert Plate", "Project", "Measure", "Summarise"],
    ),
    "bad_arguments": (
        measure(args_parallel={"threshold": "high", "fail_for": ["a", 3], "colour": "red"}),
        ["args_parallel.threshold", "args_parallel.fail_for[1]", "unknown argument 'colour'"],
    ),
    "reserved_argument": (
        measure(args_parallel={"zarr_url": "/data/x"}),
        ["args_parallel.zarr_url: this argument is reserved"],
    ),
    "conflicting_types": (
        {"name": "w", "task_list": [{"task": fake_task("Project"), "type_filters": {"is_3D": False}}]},
        ["is_3D=True", "the workflow's type_filters say the opposite"],
    ),
    "two_problems": (
        {
            "name": "w",
            "task_list": [
                {"task": fake_task("Mesure")},
                {"task": fake_task("Measure"), "args_parallel": {"threshold": -1}},
            ],
        },
        ["task_list[0] (Mesure)", "task_list[1] (Measure)", "args_parallel.threshold: -1 is less than"],
    ),
    "account_in_meta": (measure(meta_parallel={"account": "lab"}), ["meta_parallel.account"]),
    "empty": ({"name": "w", "task_list": []}, ["task_list: is empty"]),
}

DAG_FILE = """\
from fractal_airflow import FractalDag, TaskPackage
FractalDag({name!r}, "{name}.json", TaskPackage.from_directory({package!r}), dataset="plate")
"""


@pytest.fixture(scope="module")
def import_errors(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> dict[str, str]:
    """The import errors of a folder with a DAG file for each bad workflow."""
    from tests.services.airflow import make_home

    airflow = make_home(tmp_path_factory.mktemp("bad") / "home", migrated_database)
    for name, (workflow, _) in BAD_WORKFLOWS.items():
        if workflow is not None:
            text = workflow if isinstance(workflow, str) else json.dumps(workflow)
            (airflow.dags / f"{name}.json").write_text(text)
        airflow.write_dag(name, DAG_FILE.format(name=name, package=str(FAKE_TASKS)))
    (airflow.dags / "good.json").write_text(json.dumps(GOOD))
    airflow.write_dag("good", DAG_FILE.format(name="good", package=str(FAKE_TASKS)))
    return airflow.import_errors()


@pytest.mark.parametrize("name", BAD_WORKFLOWS)
def test_a_bad_workflow_is_an_import_error_that_says_what_and_where(
    import_errors: dict[str, str], name: str
) -> None:
    error = import_errors[f"{name}.py"]

    assert "WorkflowError" in error
    for said in BAD_WORKFLOWS[name][1]:
        assert said in error


def test_a_good_workflow_beside_bad_ones_is_imported(import_errors: dict[str, str]) -> None:
    assert set(import_errors) == {f"{name}.py" for name in BAD_WORKFLOWS}


def test_a_bad_manifest_is_an_import_error_that_names_file_and_field(airflow: AirflowHome) -> None:
    package = airflow.home / "package"
    package.mkdir()
    task = {"name": "Broken", "executable_parallel": "broken.py", "meta_non_parallel": {"mem": 1}}
    manifest = {"manifest_version": "2", "task_list": [task]}
    (package / "__FRACTAL_MANIFEST__.json").write_text(json.dumps(manifest))
    (airflow.dags / "broken.json").write_text(json.dumps(GOOD))
    airflow.write_dag("broken", DAG_FILE.format(name="broken", package=str(package)))

    (error,) = airflow.import_errors().values()

    assert str(package / "__FRACTAL_MANIFEST__.json") in error
    assert "meta_non_parallel must be empty" in error


def test_arguments_of_a_task_group_are_checked_too(airflow: AirflowHome) -> None:
    airflow.write_dag(
        "group",
        f"""
from airflow.sdk import DAG
from fractal_airflow import FractalTaskGroup, TaskPackage
with DAG("group"):
    FractalTaskGroup("Measure", TaskPackage.from_directory({str(FAKE_TASKS)!r}), dataset="p",
                     args_parallel={{"threshold": 1.5}}, args_non_parallel={{"n": "{{{{ params.n }}}}"}})
""",
    )

    (error,) = airflow.import_errors().values()

    assert "args_parallel.threshold: 1.5 is not of type 'integer'" in error
    assert "args_non_parallel" in error


def test_parsing_opens_neither_the_store_nor_a_connection(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag("plate", {"name": "Measure"}, resource="nowhere")

    assert airflow.import_errors() == {}

    assert not (airflow.home / "fractal_datasets.db").exists()
    assert not airflow.runs.exists()
