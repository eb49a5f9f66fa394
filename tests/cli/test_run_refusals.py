"""Runs that are refused before anything runs: exit code 1, one clear error, the dataset as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.runs import arguments, result
from tests.services.airflow import FAKE_TASKS, AirflowHome

MEASURE = {"name": "Measure"}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--attribute-filters", "{well: B03}"], ["--attribute-filters", "is not JSON"]),
        (["--attribute-filters", '{"well": "B03"}'], ["well"]),
        (["--attribute-filters", '{"well": []}'], ["well"]),
        (["--type-filters", '{"is_3D": "yes"}'], ["is_3D"]),
        (["--type-filters", "[]"], ["type"]),
        (["--first-task-index", "1"], ["1"]),
        (["--last-task-index", "-1"], ["-1"]),
        (["--package", "/no/such/folder"], ["/no/such/folder", "__FRACTAL_MANIFEST__.json"]),
        (["--resource", "nowhere"], ["nowhere", "connection"]),
        (["--workflow", "/no/such/file.json"], ["/no/such/file.json"]),
        (["--images", "/no/such/images.json"], ["/no/such/images.json"]),
        (["--zarr-dir", "relative"], ["relative"]),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_made(
    airflow: AirflowHome, call: Call, more: list[str], named: list[str]
) -> None:
    workflow = airflow.write_workflow("good", MEASURE)

    ended = call(*arguments(airflow, workflow, *more))

    assert ended.code == 1
    assert ended.err.startswith("error: ")
    for text in named:
        assert text in ended.err
    assert airflow.store.list_datasets() == []
    told = result(airflow)
    assert (told["status"], told["images"], told["steps"]) == ("failed", [], [])
    assert f"error: {told['error']}\n" == ended.err


def test_a_missing_interpreter_is_named(airflow: AirflowHome, call: Call) -> None:
    workflow = airflow.write_workflow("good", MEASURE)
    argv = arguments(airflow, workflow)
    argv[argv.index("--package") + 1] = f"{FAKE_TASKS}:/no/such/python"

    ended = call(*argv)

    assert ended.code == 1
    assert "Package fake_tasks: its Python '/no/such/python' does not exist" in ended.err
    assert airflow.store.list_datasets() == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{not json", ["workflow.json", "JSON"]),
        ('{"name": "w", "task_list": [], "colour": 1}', ["colour"]),
        (
            '{"name": "w", "task_list": [{"task": {"pkg_name": "fake_tasks", "name": "Segment"}}]}',
            ["Segment", "Measure", "Project"],
        ),
        (
            '{"name": "w", "task_list": [{"task": {"pkg_name": "fake_tasks", "name": "Project"},'
            ' "type_filters": {"is_3D": false}}]}',
            ["Project", "is_3D"],
        ),
    ],
)
def test_a_bad_workflow_leaves_the_dataset_as_it_was(
    airflow: AirflowHome, call: Call, text: str, named: list[str]
) -> None:
    airflow.add_images("B/03")
    before = airflow.store.get("plate")
    workflow = airflow.home / "workflow.json"
    workflow.write_text(text, encoding="utf-8")

    ended = call(*arguments(airflow, workflow))

    assert ended.code == 1
    for part in named:
        assert part in ended.err
    assert airflow.store.get("plate") == before
    assert result(airflow)["images"] == airflow.store.export("plate")["images"]


def test_images_are_refused_for_a_dataset_that_has_some(airflow: AirflowHome, call: Call) -> None:
    airflow.add_images("B/03")
    images = airflow.home / "images.json"
    images.write_text(json.dumps([{"zarr_url": airflow.url("B/04")}]), encoding="utf-8")

    ended = call(*arguments(airflow, airflow.write_workflow("w", MEASURE), "--images", str(images)))

    assert ended.code == 1
    assert "'plate' has 1 images already" in ended.err
    assert "--images" in ended.err
    assert [image.zarr_url for image in airflow.store.images("plate")] == [airflow.url("B/03")]


@pytest.mark.parametrize(
    "images", ["nonsense", '{"zarr_url": "/x"}', '[{"zarr_url": "/outside/of/it"}]', '[{"url": "/x"}]']
)
def test_bad_images_are_refused_and_no_dataset_is_made(airflow: AirflowHome, call: Call, images: str) -> None:
    file = airflow.home / "images.json"
    file.write_text(images, encoding="utf-8")

    ended = call(*arguments(airflow, airflow.write_workflow("w", MEASURE), "--images", str(file)))

    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert airflow.store.list_datasets() == []


def test_another_zarr_dir_than_the_datasets_own_is_refused(airflow: AirflowHome, call: Call) -> None:
    airflow.add_images("B/03")

    ended = call(*arguments(airflow, airflow.write_workflow("w", MEASURE), "--zarr-dir", "/elsewhere"))

    assert ended.code == 1
    assert "/elsewhere" in ended.err
    assert str(airflow.data) in ended.err


def test_a_result_file_that_cannot_be_written_is_refused_at_once(airflow: AirflowHome, call: Call) -> None:
    workflow = airflow.write_workflow("w", MEASURE)

    for result_file in (airflow.home, airflow.home / "no such folder" / "result.json"):
        ended = call(*arguments(airflow, workflow, "--result", str(result_file)))

        assert ended.code == 1
        assert f"--result {result_file}: cannot be written" in ended.err


def test_the_result_of_an_earlier_run_is_not_left_to_be_taken_for_this_ones(
    airflow: AirflowHome, call: Call
) -> None:
    old = airflow.home / "result.json"
    old.write_text('{"status": "done"}', encoding="utf-8")

    call(*arguments(airflow, Path("/no/such/workflow.json")))

    assert result(airflow)["status"] == "failed"
