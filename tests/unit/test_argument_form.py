"""The arguments of workflows' tasks as a form, the tasks of real packages included."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context, Param
from airflow.sdk.definitions.param import ParamsDict

from fractal_airflow import FractalDag
from fractal_airflow.argument_form import argument_params, form_of
from fractal_airflow.fractal import ResolvedTask, TaskPackage, resolve_workflow, workflow_of_task
from fractal_airflow.fractal.manifest import TaskManifest
from fractal_airflow.operators.arguments import effective_arguments
from fractal_airflow.operators.templates import is_template
from tests.services.task_environments import core_tasks
from tests.unit.fractal.packages import (
    SEGMENT_SCHEMA,
    manifest_of,
    project_task,
    segment_task,
    write_manifest,
)
from tests.unit.workflows import fake_package, step, workflow

REQUIRED: dict[str, Any] = {
    "acquisitions": "{{ params.acquisitions }}",
    "channel": {"mode": "label", "identifier": "DAPI"},
    "illumination_profiles": {"model": "Profile", "folder": "/profiles", "profiles": {"A01_C01": "a.tif"}},
    "input_label_name": "nuclei",
    "registered_roi_table": "registered",
    "wavelength_id": "A01_C01",
    "zarr_name": "plate.zarr",
}
"""Values for the arguments of real tasks that a workflow must set."""


def real_packages() -> list[TaskPackage]:
    environments = core_tasks().folder.parent
    names = {"core": "fractal-tasks-core", "uzh": "fractal-uzh-converters"}
    return [TaskPackage.from_environment(environments / folder, name) for folder, name in names.items()]


def real_steps(packages: list[TaskPackage]) -> list[ResolvedTask]:
    """A step of every task of real packages, with no more arguments than it must have."""
    found = []
    for package in packages:
        for task in package.manifest.task_list:
            loaded = workflow_of_task(
                task.name, **{f"args_{half}": _required(task, half) for half in task.halves}
            )
            found += resolve_workflow(loaded, [package], ignore=is_template)
    return found


def _required(task: TaskManifest, half: Any) -> dict[str, Any]:
    names = (task.args_schema(half) or {}).get("required", [])
    return {name: REQUIRED[name] for name in names if name in REQUIRED}


def package_of(folder: Path, manifest: dict[str, Any]) -> TaskPackage:
    return TaskPackage.from_directory(write_manifest(folder / "tasks", manifest), "/usr/bin/python3")


@pytest.fixture(scope="module")
def real() -> list[ResolvedTask]:
    return real_steps(real_packages())


def as_run(params: dict[str, Param], **chosen: Any) -> Context:
    """The context of a run that was started in the browser: it sends the whole form, numbers as it writes them."""
    values = {key: _in_browser(param.value) for key, param in params.items()} | chosen
    return cast(Context, {"dag": SimpleNamespace(params=ParamsDict(params)), "params": values})


def _in_browser(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_browser(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_browser(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def arguments_of(a_step: ResolvedTask) -> dict[str, Any]:
    return {"non_parallel": a_step.args_non_parallel, "parallel": a_step.args_parallel}


def effective(a_step: ResolvedTask, run: Context) -> dict[str, Any]:
    form = form_of(a_step)
    return {half: effective_arguments(own, form[half], run) for half, own in arguments_of(a_step).items()}


class TestRealTasks:
    def test_every_default_passes_its_own_field(self, real: list[ResolvedTask]) -> None:
        params = argument_params(real)

        assert len(params) > 50
        for param in params.values():
            param.resolve()

    def test_a_run_that_changes_nothing_has_exactly_the_workflows_arguments(
        self, real: list[ResolvedTask]
    ) -> None:
        for each in real:
            run = as_run(argument_params([each]))

            assert json.dumps(effective(each, run)) == json.dumps(arguments_of(each))

    def test_every_field_has_an_input_of_its_type(self, real: list[ResolvedTask]) -> None:
        kinds: dict[str, str] = {}
        for key, param in argument_params(real).items():
            types = param.schema["type"]
            kinds[key.partition(".")[2]] = types if isinstance(types, str) else types[0]

        assert kinds["args_parallel.overwrite"] == "boolean"
        assert kinds["args_parallel.upper_rescale_quantile"] == "number"
        assert kinds["args_non_parallel.reference_acquisition"] == "integer"
        assert kinds["args_parallel.level_path"] == "string"
        assert kinds["args_parallel.segmentation_method"] == "object"
        assert kinds["args_parallel.features"] == "array"
        assert "args_non_parallel.acquisitions" not in kinds  # a template

    def test_a_nested_value_that_breaks_its_rules_is_refused(self, real: list[ResolvedTask]) -> None:
        params = ParamsDict(argument_params(real))
        (key,) = [key for key in params if key.endswith("segmentation_method")]

        params[key] = {"method": "Otsu"}
        with pytest.raises(ValueError, match=r"segmentation_method: .*'Otso'"):
            params[key] = {"method": "Otso"}


class TestFields:
    def test_each_task_has_a_section_of_its_own(self) -> None:
        dag = FractalDag(
            "nuclei",
            workflow("Measure", {"name": "Measure", "alias": "Once more"}),
            fake_package(),
            dataset="p",
        )

        sections = {
            key.split(".")[0]: dag.params.get_param(key).schema["section"] for key in dag.params if "." in key
        }

        assert sections == {"0_measure": "0: Measure", "1_once_more": "1: Once more"}

    def test_a_field_has_the_workflows_value(self) -> None:
        params = argument_params([step({"name": "Measure", "args_parallel": {"threshold": 7}})])

        assert params["0_measure.args_parallel.threshold"].value == 7
        assert params["0_measure.args_parallel.note"].value is None

    def test_a_template_has_no_field(self) -> None:
        arguments = {"threshold": "{{ params.x }}", "fail_for": ["{{ ds }}"], "note": "a"}

        params = argument_params([step({"name": "Measure", "args_parallel": {"note": "a"}})])
        without = argument_params(
            resolve_workflow(
                workflow_of_task("Measure", args_parallel=arguments), [fake_package()], ignore=is_template
            )
        )

        assert params.keys() - without.keys() == {
            "0_measure.args_parallel.threshold",
            "0_measure.args_parallel.fail_for",
        }

    def test_halves_whose_titles_are_the_same_are_told_apart(self, tmp_path: Path) -> None:
        def schema(*names: str) -> dict[str, Any]:
            return {"type": "object", "properties": {name: {"type": "string"} for name in names}}

        task = project_task(
            args_schema_non_parallel=schema("zarr_dir", "method", "first"),
            args_schema_parallel=schema("init_args", "method", "second"),
        )
        package = package_of(tmp_path, manifest_of(task))

        params = argument_params(resolve_workflow(workflow_of_task("Project"), [package]))

        assert {key: param.schema["title"] for key, param in params.items()} == {
            "0_project.args_non_parallel.method": "Method (init)",
            "0_project.args_non_parallel.first": "First",
            "0_project.args_parallel.method": "Method (compute)",
            "0_project.args_parallel.second": "Second",
        }

    def test_a_task_without_schemas_has_no_fields(self, tmp_path: Path) -> None:
        task = segment_task(args_schema_parallel=None)
        package = package_of(tmp_path, manifest_of(task, has_args_schemas=False))
        (found,) = resolve_workflow(workflow_of_task("Segment", args_parallel={"a": 1}), [package])

        assert argument_params([found]) == {}
        assert form_of(found) == {"non_parallel": {}, "parallel": {}}

    def test_an_empty_text_does_not_keep_the_form_from_starting_a_run(self, tmp_path: Path) -> None:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        package = package_of(tmp_path, manifest_of(segment_task(args_schema_parallel=schema)))

        def types(value: str) -> Any:
            loaded = workflow_of_task("Segment", args_parallel={"name": value})
            (param,) = argument_params(resolve_workflow(loaded, [package])).values()
            assert param.resolve() == value
            return param.schema["type"]

        assert types("a") == "string"
        assert types("") == ["string", "null"]

    def test_a_workflows_value_that_no_field_could_hand_on_has_none(self) -> None:
        arguments = {"output": {"a": (1, 2)}, "note": "a"}

        params = argument_params([step({"name": "Measure", "args_parallel": arguments})])

        assert "0_measure.args_parallel.output" not in params
        assert "0_measure.args_parallel.note" in params


class TestRuns:
    @pytest.mark.parametrize(
        ("chosen", "expected"),
        [
            ({"threshold": 9}, {"threshold": 9, "note": "a"}),
            ({"note": None}, {"threshold": 7}),
            ({"note": ""}, {"threshold": 7, "note": ""}),
            ({"fail_for": ["B/03"]}, {"threshold": 7, "note": "a", "fail_for": ["B/03"]}),
            ({"fail_for": []}, {"threshold": 7, "note": "a", "fail_for": []}),
            ({"output": None}, {"threshold": 7, "note": "a"}),
        ],
    )
    def test_a_run_changes_what_it_chooses(self, chosen: dict[str, Any], expected: dict[str, Any]) -> None:
        measure = step({"name": "Measure", "args_parallel": {"threshold": 7, "note": "a"}})

        run = as_run(
            argument_params([measure]),
            **{f"0_measure.args_parallel.{name}": value for name, value in chosen.items()},
        )

        assert effective(measure, run)["parallel"] == expected

    def test_a_nested_value_is_taken_whole(self, tmp_path: Path) -> None:
        package = package_of(tmp_path, manifest_of(segment_task(args_schema_parallel=SEGMENT_SCHEMA)))
        arguments = {"channel": {"identifier": "DAPI"}, "method": {"method": "Fixed", "threshold": 1.0}}
        (segment,) = resolve_workflow(workflow_of_task("Segment", args_parallel=arguments), [package])
        params = argument_params([segment])

        run = as_run(params, **{"0_segment.args_parallel.method": {"method": "Otsu"}})

        assert effective(segment, run)["parallel"] == {**arguments, "method": {"method": "Otsu"}}


class TestInADag:
    def test_the_form_can_be_switched_off(self) -> None:
        dag = FractalDag("nuclei", workflow("Measure"), fake_package(), dataset="p", arguments_form=False)

        assert not [key for key in dag.params if "." in key]

    def test_no_task_has_a_copy_of_the_form(self) -> None:
        # Airflow copies all parameters that are there into every task that is made.
        dag = FractalDag("nuclei", workflow("Measure", "Measure"), fake_package(), dataset="p")

        assert [key for key in dag.params if "." in key]
        assert not [key for task in dag.tasks for key in task.params if "." in key]

    def test_a_dag_on_a_schedule_has_a_form(self) -> None:
        dag = FractalDag("nuclei", workflow("Measure"), fake_package(), dataset="p", schedule="@daily")

        assert dag.params["0_measure.args_parallel.threshold"] is None
