"""Reading and writing workflow files, and choosing the part that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.workflow import dump_workflow, load_workflow, workflow_of_task, workflow_slice


def exported_task(**changes: Any) -> dict[str, Any]:
    task = {
        "meta_non_parallel": None,
        "meta_parallel": {"cpus_per_task": 1, "mem": 4000},
        "args_non_parallel": None,
        "args_parallel": {"channel": "DAPI", "list": [1, 2.5, None, {"a": True}]},
        "type_filters": {"is_3D": False},
        "alias": None,
        "description": None,
        "task": {"pkg_name": "fractal-tasks-core", "version": "2.1.0", "name": "Threshold Segmentation"},
    }
    return {key: value for key, value in {**task, **changes}.items() if value is not ...}


def exported(*tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "Nuclei", "description": None, "task_list": list(tasks or [exported_task()]), **changes}


def test_an_exported_workflow_is_read_and_written_unchanged(tmp_path: Path) -> None:
    data = exported(
        exported_task(),
        exported_task(alias="Again µ", description="zum zweiten Mal", args_parallel={}, type_filters={}),
        description="all nuclei",
    )
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(data), encoding="utf-8")

    written = json.dumps(dump_workflow(load_workflow(path)))

    assert written == json.dumps(data)


def test_a_workflow_written_by_hand_may_leave_out_what_it_does_not_need() -> None:
    workflow = load_workflow({"name": "w", "task_list": [{"task": {"pkg_name": "p", "name": "Segment"}}]})

    (task,) = workflow.task_list
    assert (task.name, task.args("parallel"), task.type_filters, task.task.version) == (
        "Segment",
        {},
        {},
        None,
    )
    assert dump_workflow(workflow)["task_list"][0]["args_parallel"] is None


def test_an_alias_is_the_name_of_a_step() -> None:
    assert load_workflow(exported(exported_task(alias="Cells"))).task_list[0].name == "Cells"


def test_a_template_is_read() -> None:
    template = {"name": "Template", "version": 3, "description": None, "data": exported()}

    assert dump_workflow(load_workflow(template)) == exported()


def test_an_older_file_with_input_filters_is_read() -> None:
    old = exported_task(type_filters=..., input_filters={"attributes": {}, "types": {"is_3D": True}})

    workflow = load_workflow(exported(old))

    assert workflow.task_list[0].type_filters == {"is_3D": True}
    assert "input_filters" not in dump_workflow(workflow)["task_list"][0]


@pytest.mark.parametrize(
    ("input_filters", "problem"),
    [
        (
            {"attributes": {"well": "B03"}, "types": {}},
            "input_filters.attributes: attribute filters belong to a run",
        ),
        ({"attributes": {}, "types": {}, "other": 1}, "input_filters must be"),
        ([], None),
        ({"types": {"is_3D": "yes"}}, r"type_filters.is_3D"),
    ],
)
def test_old_filters_that_mean_nothing_now_are_refused(input_filters: object, problem: str | None) -> None:
    data = exported(exported_task(type_filters=..., input_filters=input_filters))
    if problem is None:
        assert load_workflow(data).task_list[0].type_filters == {}
    else:
        with pytest.raises(WorkflowError, match=problem):
            load_workflow(data)


def test_old_and_new_filters_at_once_are_refused() -> None:
    with pytest.raises(WorkflowError, match="input_filters is the old name of type_filters"):
        load_workflow(exported(exported_task(input_filters={"types": {}})))


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (exported(colour="blue"), "colour"),
        (exported(exported_task(), exported_task(argz_parallel={})), r"task_list\[1\].argz_parallel"),
        (exported(exported_task(task={"pkg_name": "p", "name": "n", "id": 5})), r"task_list\[0\].task.id"),
        ({"name": "t", "version": 1, "description": None, "data": exported(), "more": 1}, "more"),
        ({"name": "t", "version": 1, "description": None, "data": exported(more=1)}, "data.more"),
    ],
)
def test_unknown_keys_at_any_level_are_refused_by_name(data: dict[str, Any], path: str) -> None:
    with pytest.raises(WorkflowError, match=f"{path}: unknown key"):
        load_workflow(data)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"name": "w"}, "task_list: is missing"),
        ({"task_list": []}, "name: is missing"),
        (exported(name=1), "name"),
        (exported(task_list={}), "task_list"),
        (exported("Segment"), r"task_list\[0\]"),  # type: ignore[arg-type]
        (exported(exported_task(task=...)), r"task_list\[0\].task: is missing"),
        (exported(exported_task(task={"name": "n"})), r"task_list\[0\].task.pkg_name: is missing"),
        (exported(exported_task(task={"pkg_name": "p", "name": ""})), r"task_list\[0\].task.name"),
        (
            exported(exported_task(task={"pkg_name": "p", "name": "n", "version": 2.1})),
            r"task_list\[0\].task.version",
        ),
        (exported(exported_task(args_parallel=[1])), r"task_list\[0\].args_parallel"),
        (exported(exported_task(meta_parallel="fast")), r"task_list\[0\].meta_parallel"),
        (exported(exported_task(type_filters={"is_3D": 1})), r"task_list\[0\].type_filters.is_3D"),
    ],
)
def test_a_field_that_is_missing_or_of_a_wrong_type_is_told_by_its_path(
    data: dict[str, Any], path: str
) -> None:
    with pytest.raises(WorkflowError, match=path):
        load_workflow(data)


@pytest.mark.parametrize("text", ["", "{'name': 1}", "name: w", "[1]", "null", '{"name": NaN}', "\xff\xfe"])
def test_a_file_that_is_no_workflow_is_told_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "nuclei.json"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(WorkflowError, match=str(path)):
        load_workflow(str(path))


@pytest.mark.parametrize(("name", "reason"), [("nowhere.json", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(WorkflowError, match=f"cannot read the workflow: {reason}"):
        load_workflow(tmp_path / name)


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(exported()), encoding="utf-8-sig")

    assert load_workflow(path).name == "Nuclei"


def test_one_task_is_a_workflow() -> None:
    workflow = workflow_of_task("Segment", args_parallel={"size": 3}, type_filters={"is_3D": True})

    (task,) = workflow.task_list
    assert (task.name, task.args("parallel"), task.type_filters) == ("Segment", {"size": 3}, {"is_3D": True})


def test_one_task_with_wrong_filters_is_refused() -> None:
    with pytest.raises(WorkflowError, match=r"Task 'Segment': .*type_filters.is_3D"):
        workflow_of_task("Segment", type_filters={"is_3D": "yes"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, [0, 1, 2, 3]),
        (1, None, [1, 2, 3]),
        (None, 2, [0, 1, 2]),
        (2, 2, [2]),
        ("1", " 2 ", [1, 2]),
        ("", "None", [0, 1, 2, 3]),
    ],
)
def test_the_part_of_a_workflow_that_runs_has_both_its_ends(
    first: Any, last: Any, expected: list[int]
) -> None:
    assert list(workflow_slice(4, first, last)) == expected


@pytest.mark.parametrize(
    ("first", "last", "problem"),
    [
        (4, None, "first_task_index 4 is out of range: the workflow's 4 steps are 0 to 3"),
        (None, 4, "last_task_index 4 is out of range"),
        (-1, None, "first_task_index -1 is out of range"),
        ("-1", None, "first_task_index -1 is out of range"),
        (2, 1, "first_task_index 2 comes after last_task_index 1"),
        ("two", None, "first_task_index must be a whole number, not 'two'"),
        (1.0, None, "first_task_index must be a whole number"),
        (None, True, "last_task_index must be a whole number"),
    ],
)
def test_a_part_that_is_none_is_refused(first: Any, last: Any, problem: str) -> None:
    with pytest.raises(WorkflowError, match=problem):
        workflow_slice(4, first, last)
