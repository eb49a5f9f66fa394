"""Finding the tasks of a workflow in the packages, with every problem at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal.package import TaskPackage
from fractal_airflow.fractal.resolve import (
    ResolvedTask,
    check_step_arguments,
    check_workflow,
    resolve_workflow,
)
from fractal_airflow.fractal.workflow import Workflow, load_workflow, workflow_of_task
from tests.unit.fractal.packages import convert_task, manifest_of, project_task, segment_task, write_manifest

CHANNEL = {"channel": {"identifier": "DAPI"}}


def make_package(
    folder: Path, version: str | None = "1.0", tasks: list[dict[str, Any]] | None = None, **changes: Any
) -> TaskPackage:
    tasks = tasks or [convert_task(), project_task(), segment_task()]
    told = {} if version is None else {"version": version}
    manifest = manifest_of(*tasks, **{"pkg_name": "demo-tasks", **told, **changes})
    return TaskPackage.from_directory(write_manifest(folder / f"demo-{version}", manifest))


@pytest.fixture
def package(tmp_path: Path) -> TaskPackage:
    """A package of a converter, a compound and a parallel task."""
    return make_package(tmp_path)


def step(
    name: str, pkg_name: str = "demo-tasks", version: str | None = "1.0", **fields: Any
) -> dict[str, Any]:
    return {"task": {"pkg_name": pkg_name, "version": version, "name": name}, **fields}


def workflow(*steps: dict[str, Any]) -> Workflow:
    return load_workflow({"name": "w", "task_list": list(steps)})


def problems(package: TaskPackage | list[TaskPackage], *steps: dict[str, Any]) -> list[str]:
    return check_workflow(workflow(*steps), package if isinstance(package, list) else [package])


def resolve_one(package: TaskPackage, **fields: Any) -> ResolvedTask:
    return resolve_workflow(workflow(step("Segment", **{"args_parallel": CHANNEL, **fields})), [package])[0]


def test_a_workflow_finds_its_tasks(package: TaskPackage) -> None:
    segment = step("Segment", args_parallel=CHANNEL)
    steps = resolve_workflow(
        workflow(step("Convert"), step("Project"), segment, {**segment, "alias": "Cells"}), [package]
    )

    assert [(each.index, each.name, each.task_name) for each in steps] == [
        (0, "Convert", "Convert"),
        (1, "Project", "Project"),
        (2, "Segment", "Segment"),
        (3, "Cells", "Segment"),
    ]
    assert [each.is_converter for each in steps] == [True, False, False, False]
    assert (steps[1].input_types, steps[1].output_types) == ({"is_3D": True}, {"is_3D": False})


def test_a_step_has_what_manifest_and_workflow_say(package: TaskPackage) -> None:
    segment = resolve_one(
        package, meta_parallel={"mem": "8G"}, description="all nuclei", type_filters={"x": True}
    )

    assert segment.meta_parallel == {"cpus_per_task": 1, "mem": 8000}
    assert segment.args_parallel == CHANNEL
    assert segment.args_non_parallel == {}
    assert (segment.description, segment.type_filters) == ("all nuclei", {"x": True})
    assert segment.command("parallel") == [package.python, str(package.directory / "tasks/segment.py")]


def test_the_key_of_a_task_stays_the_same_from_version_to_version(tmp_path: Path) -> None:
    keys = {
        resolve_one(make_package(tmp_path / name, pkg_name=name), version=None).task_key
        for name in ("demo-tasks", "Demo_Tasks")
    }

    assert keys == {"demo-tasks/Segment"}


@pytest.mark.parametrize("pkg_name", ["demo_tasks", "DEMO.tasks", "demo--tasks"])
def test_package_names_compare_in_their_canonical_form(package: TaskPackage, pkg_name: str) -> None:
    assert problems(package, step("Convert", pkg_name=pkg_name)) == []


def test_an_unknown_package_is_told_with_those_that_are_loaded(package: TaskPackage) -> None:
    assert problems(package, step("Convert", pkg_name="demo-task")) == [
        "task_list[0] (Convert): task: no package 'demo-task' is loaded; there are: demo-tasks 1.0"
    ]


def test_an_unknown_version_is_told_with_those_that_are_loaded(tmp_path: Path) -> None:
    packages = [make_package(tmp_path, "1.0"), make_package(tmp_path, "1.1")]

    assert problems(packages, step("Convert", version="2.0")) == [
        "task_list[0] (Convert): task: version 2.0 of 'demo-tasks' is not loaded; "
        "there are: demo-tasks 1.0, demo-tasks 1.1"
    ]


def test_an_unknown_task_is_told_with_those_of_the_package(package: TaskPackage) -> None:
    assert problems(package, step("Sgment")) == [
        "task_list[0] (Sgment): task: no task 'Sgment' in demo-tasks 1.0; "
        "there are: Convert, Project, Segment"
    ]


def test_no_package_at_all_is_told() -> None:
    (problem,) = problems([], step("Convert"))

    assert problem.endswith("no package 'demo-tasks' is loaded; there are: none")


def test_the_version_of_the_workflow_is_taken_where_several_are_loaded(tmp_path: Path) -> None:
    packages = [make_package(tmp_path, "1.0"), make_package(tmp_path, "1.1")]

    (found,) = resolve_workflow(workflow(step("Convert", version="1.1")), packages)

    assert found.package.version == "1.1"


def test_a_version_may_be_left_out_where_one_package_offers_the_task(tmp_path: Path) -> None:
    packages = [
        make_package(tmp_path, "1.0", [segment_task()]),
        make_package(tmp_path, "1.1", [convert_task()]),
    ]

    (found,) = resolve_workflow(workflow(step("Convert", version=None)), packages)

    assert found.package.version == "1.1"


def test_a_version_left_out_where_several_offer_the_task_is_asked_for(tmp_path: Path) -> None:
    packages = [make_package(tmp_path, "1.0"), make_package(tmp_path, "1.1")]

    (problem,) = problems(packages, step("Convert", version=None))

    assert "task 'Convert' is in demo-tasks 1.0 (" in problem
    assert problem.endswith("name the version, or leave packages out")


def test_the_same_package_given_twice_is_one(package: TaskPackage) -> None:
    assert problems([package, package], step("Convert", version=None)) == []


def test_a_package_of_unknown_version_will_do_where_no_other_fits(tmp_path: Path) -> None:
    unknown, known = make_package(tmp_path, None), make_package(tmp_path, "1.0")

    def version_of_step(version: str) -> str | None:
        return resolve_workflow(workflow(step("Convert", version=version)), [unknown, known])[
            0
        ].package.version

    assert (version_of_step("1.0"), version_of_step("7.0")) == ("1.0", None)


def test_a_single_task_is_looked_for_in_all_packages(package: TaskPackage) -> None:
    (found,) = resolve_workflow(workflow_of_task("Segment", args_parallel=CHANNEL), [package])

    assert (found.name, found.package) == ("Segment", package)


def test_arguments_are_checked_against_the_schema(package: TaskPackage) -> None:
    assert problems(package, step("Segment", args_parallel={"channel": "DAPI"})) == [
        "task_list[0] (Segment): args_parallel.channel: 'DAPI' is not of type 'object'"
    ]


def test_required_arguments_are_missed_where_there_are_none(package: TaskPackage) -> None:
    assert problems(package, step("Segment", alias="Cells")) == [
        "task_list[0] (Cells): args_parallel: 'channel' is a required property"
    ]


@pytest.mark.parametrize("half", ["non_parallel", "parallel"])
def test_reserved_arguments_are_refused_in_both_halves(package: TaskPackage, half: str) -> None:
    project = {**step("Project"), f"args_{half}": {"zarr_dir": "/data"}}

    (problem,) = problems(package, project)

    assert f"args_{half}.zarr_dir: this argument is reserved" in problem


@pytest.mark.parametrize("fields", [{"args_non_parallel": {"a": 1}}, {"meta_non_parallel": {"mem": 1}}])
def test_what_is_said_about_a_command_that_the_task_has_not_is_refused(
    package: TaskPackage, fields: dict[str, Any]
) -> None:
    (problem,) = problems(package, step("Segment", args_parallel=CHANNEL, **fields))

    assert problem.endswith(": must be empty, since a task of type parallel has no such command")
    assert (
        problems(package, step("Segment", args_parallel=CHANNEL, args_non_parallel={}, meta_non_parallel={}))
        == []
    )


def test_conflicting_type_filters_are_told_before_anything_runs(package: TaskPackage) -> None:
    (problem,) = problems(package, step("Project", type_filters={"is_3D": False}))

    assert problem.startswith("task_list[0] (Project): type_filters: ")
    assert "is_3D" in problem
    assert problems(package, step("Project", type_filters={"is_3D": True, "registered": True})) == []


def test_filters_do_not_concern_a_converter(tmp_path: Path) -> None:
    package = make_package(tmp_path, tasks=[convert_task(input_types={"is_3D": True})])

    assert problems(package, step("Convert", type_filters={"is_3D": False})) == []


def test_how_to_run_is_checked(package: TaskPackage) -> None:
    (problem,) = problems(package, step("Segment", args_parallel=CHANNEL, meta_parallel={"account": "lab"}))

    assert problem.startswith("task_list[0] (Segment): meta_parallel.account: ")


def test_a_workflow_without_tasks_is_told(package: TaskPackage) -> None:
    assert problems(package) == ["task_list: is empty: there is nothing to run"]


def test_all_problems_are_in_one_error_that_names_the_file(package: TaskPackage, tmp_path: Path) -> None:
    path = tmp_path / "nuclei.json"
    steps = [step("Nothing"), step("Segment", args_parallel={"chanel": 1}), step("Convert", pkg_name="other")]
    path.write_text(json.dumps({"name": "w", "task_list": steps}))

    with pytest.raises(WorkflowError) as caught:
        resolve_workflow(load_workflow(path), [package])

    message = str(caught.value)
    assert message.startswith(f"{path}: 4 problems:")
    assert [line.split(")")[0] for line in message.splitlines()[1:]] == [
        "- task_list[0] (Nothing",
        "- task_list[1] (Segment",
        "- task_list[1] (Segment",
        "- task_list[2] (Convert",
    ]


def test_templates_wait_until_they_are_filled_in(package: TaskPackage) -> None:
    templated = workflow(step("Segment", args_parallel={"channel": "{{ params.channel }}"}))

    (found,) = resolve_workflow(templated, [package], ignore=lambda value: "{{" in str(value))

    check_step_arguments(found, {"parallel": CHANNEL, "non_parallel": {}})
    with pytest.raises(
        WorkflowError, match=r"0: Segment: args_parallel.channel: 'DAPI' is not of type 'object'"
    ):
        check_step_arguments(found, {"parallel": {"channel": "DAPI"}})


def test_filled_in_arguments_have_all_their_problems_told(package: TaskPackage) -> None:
    found = resolve_one(package)

    with pytest.raises(WorkflowError, match="2 problems") as caught:
        check_step_arguments(found, {"parallel": {"channel": "DAPI", "sizes": 1}})
    assert "args_parallel.sizes" in str(caught.value)


def test_a_workflow_of_twenty_tasks_is_checked_in_no_time(package: TaskPackage) -> None:
    twenty = workflow(*[step("Segment", args_parallel=CHANNEL)] * 20)

    def seconds() -> float:
        started = time.process_time()
        resolve_workflow(twenty, [package])
        return time.process_time() - started

    # The best of some: a garbage collection of the whole test process may fall into any one of them.
    assert min(seconds() for _ in range(5)) < 0.02
