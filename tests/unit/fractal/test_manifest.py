"""Reading manifests, and refusing those that break a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.manifest import load_manifest
from tests.unit.fractal.packages import (
    convert_task,
    manifest_of,
    project_task,
    segment_task,
    write_manifest,
)


def load(folder: Path, *tasks: dict[str, Any], **changes: Any) -> Any:
    return load_manifest(write_manifest(folder, manifest_of(*tasks, **changes)))


def test_a_manifest_tells_all_about_its_tasks(tmp_path: Path) -> None:
    task = load(tmp_path, segment_task(), project_task(category="Image Processing", tags=["3D"])).task(
        "Project"
    )

    assert (task.type, task.input_types, task.output_types) == ("compound", {"is_3D": True}, {"is_3D": False})
    assert (task.category, task.tags, task.docs_info) == ("Image Processing", ["3D"], None)
    assert task.executable("non_parallel") == "tasks/init.py"


def test_keys_that_are_not_known_are_no_error(tmp_path: Path) -> None:
    manifest = load(tmp_path, segment_task(docs_link="https://example.org", new_key=[1]), authors="A. Author")

    assert manifest.task_names == ["Segment"]


def test_null_is_as_good_as_absent(tmp_path: Path) -> None:
    task = segment_task(
        executable_non_parallel=None,
        meta_non_parallel=None,
        input_types=None,
        category=None,
        tags=None,
        type=None,
    )

    assert load(tmp_path, task).task("Segment").type == "parallel"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (segment_task(type=...), "parallel"),
        (convert_task(type=...), "non_parallel"),
        (project_task(type=...), "compound"),
    ],
)
def test_a_task_without_a_type_takes_it_from_its_executables(
    tmp_path: Path, task: dict[str, Any], expected: str
) -> None:
    assert load(tmp_path, task).task_list[0].type == expected


def test_a_task_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    manifest = load(tmp_path, segment_task(), project_task())

    with pytest.raises(WorkflowError, match="no task 'Segmnt'; there are Segment, Project"):
        manifest.task("Segmnt")


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (segment_task(name=...), r"task_list\[0\].name: is missing"),
        (segment_task(name=""), r"task_list\[0\].name"),
        (segment_task(type="serial"), r"task_list\[0\].type"),
        (segment_task(executable_parallel=...), "neither executable_non_parallel nor executable_parallel"),
        (
            segment_task(type="compound"),
            "which has executable_non_parallel and executable_parallel, but it has exec",
        ),
        (
            segment_task(type="converter_non_parallel"),
            "has executable_non_parallel, but it has executable_parallel",
        ),
        (project_task(type="parallel"), "has executable_parallel, but it has executable_non_parallel and"),
        (segment_task(meta_non_parallel={"mem": 1}), "meta_non_parallel must be empty"),
        (segment_task(args_schema_non_parallel={"type": "object"}), "args_schema_non_parallel must be empty"),
        (convert_task(meta_parallel={"mem": 1}), "meta_parallel must be empty"),
        (
            segment_task(args_schema_parallel=...),
            "'Segment': has_args_schemas is true, but there is no args_schema_p",
        ),
        (segment_task(input_types={"is_3D": "yes"}), r"task_list\[0\].input_types.is_3D"),
        (segment_task(output_types={"is_3D": 1}), r"task_list\[0\].output_types.is_3D"),
        (segment_task(executable_parallel="/bin/sh"), "inside it"),
        (segment_task(executable_parallel="tasks/../../run.py"), "inside it"),
        (segment_task(executable_parallel=""), "inside it"),
        (segment_task(command_parallel="sh x.sh"), "executable_parallel or command_parallel, not both"),
        (segment_task(executable_parallel=..., command_parallel="sh 'x"), r"task_list\[0\].command_parallel"),
        (segment_task(executable_parallel=..., command_parallel="  "), "the command is empty"),
    ],
)
def test_a_task_that_breaks_a_rule_is_refused(tmp_path: Path, task: dict[str, Any], problem: str) -> None:
    with pytest.raises(WorkflowError, match=problem):
        load(tmp_path, task)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"manifest_version": "1"}, "manifest_version"),
        ({"manifest_version": 2}, "manifest_version"),
        ({"manifest_version": ...}, "manifest_version: is missing"),
        ({"task_list": ...}, "task_list: is missing"),
        ({"task_list": {}}, "task_list"),
        ({"task_list": [1]}, r"task_list\[0\]"),
        ({"has_args_schemas": "yes"}, "has_args_schemas"),
        ({"task_list": [segment_task(), segment_task()]}, "unique; twice there: Segment"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(WorkflowError, match=problem):
        load(tmp_path, segment_task(), **changes)


def test_every_problem_is_named_at_once_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError) as caught:
        load(tmp_path, segment_task(name=...), project_task(type="serial"), manifest_version="3")

    message = str(caught.value)
    assert message.startswith(f"{tmp_path / '__FRACTAL_MANIFEST__.json'}: 3 problems:")
    for field in ("manifest_version", "task_list[0].name", "task_list[1].type"):
        assert field in message


def test_schemas_may_be_missing_where_the_manifest_says_so(tmp_path: Path) -> None:
    manifest = load(tmp_path, segment_task(args_schema_parallel=...), has_args_schemas=False)

    assert manifest.task("Segment").args_schema("parallel") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"task_list": NaN}', "\xff", "[" * 100_000])
def test_a_file_that_holds_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "__FRACTAL_MANIFEST__.json"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(WorkflowError, match=str(path)):
        load_manifest(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"nowhere\.json: cannot read the manifest: No such file"):
        load_manifest(tmp_path / "nowhere.json")


def test_documentation_in_a_file_beside_the_manifest_is_read(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "segment.md").write_text("# Segments nuclei µ", encoding="utf-8")

    manifest = load(tmp_path, segment_task(docs_info="file:docs/segment.md"))

    assert manifest.task("Segment").docs_info == "# Segments nuclei µ"


def test_documentation_that_is_not_there_or_lies_outside_the_package_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret")

    manifest = load(
        tmp_path / "package",
        segment_task(docs_info="file:docs/none.md"),
        project_task(docs_info="file:../secret.md"),
    )

    assert [task.docs_info for task in manifest.task_list] == [None, None]


def test_a_manifest_that_was_read_can_be_written_again(tmp_path: Path) -> None:
    manifest = load(tmp_path, segment_task(), project_task())

    assert json.loads(manifest.model_dump_json())["task_list"][1]["type"] == "compound"
