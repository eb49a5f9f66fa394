"""What a run may choose: dataset, filters, the part of the workflow, and what arguments name in templates."""

from __future__ import annotations

from pathlib import Path

from tests.services.airflow import AirflowHome

MEASURE_TWICE = ({"name": "Measure"}, {"name": "Measure", "alias": "Measure again"})


def test_attribute_filters_choose_the_images_of_all_steps(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", "C/03")
    airflow.write_fractal_dag("plate", *MEASURE_TWICE)

    run = airflow.test_dag("plate", {"attribute_filters": {"well": ["B03", "C03"]}})

    assert run.state == "success", run.log
    assert airflow.measured("B/03", "B/04", "C/03") == [2, 0, 2]


def test_type_filters_of_a_run_hold_until_a_task_sets_the_type(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", is_3D=True, good=True)
    airflow.add_images("B/04", "C/03", is_3D=True)
    airflow.write_fractal_dag("plate", {"name": "Measure"}, {"name": "Project"}, {"name": "Summarise"})

    run = airflow.test_dag("plate", {"type_filters": {"good": True}})

    assert run.state == "success", run.log
    assert airflow.measured("B/03", "B/04", "C/03") == [1, 0, 0]
    assert len(airflow.store.images("plate")) == 4


def test_an_absent_type_counts_as_false(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", bad=True)
    airflow.add_images("B/04")
    airflow.write_fractal_dag("plate", {"name": "Measure"})

    assert airflow.test_dag("plate", {"type_filters": {"bad": False}}).state == "success"

    assert airflow.measured("B/03", "B/04") == [0, 1]


def test_steps_outside_the_chosen_part_are_skipped_without_failing_the_run(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", is_3D=True)
    airflow.write_fractal_dag(
        "plate", {"name": "Project"}, {"name": "Measure"}, {"name": "Summarise"}, {"name": "Measure"}
    )

    run = airflow.test_dag("plate", {"first_task_index": 1, "last_task_index": 2})

    assert run.state == "success", run.log
    for skipped in (
        "0_project.select",
        "0_project.init",
        "0_project.run",
        "3_measure.select",
        "3_measure.run",
    ):
        assert run.state_of(skipped) == "skipped"
    # The projection did not run, so its output types choose nothing: the images are 3D still.
    assert airflow.measured("B/03") == [1]
    assert {record.step for record in airflow.store.statuses("plate")} == {1, 2}


def test_a_part_of_the_workflow_that_does_not_exist_is_refused(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", *MEASURE_TWICE)

    backwards = airflow.test_dag("plate", {"first_task_index": 1, "last_task_index": 0})

    assert backwards.state == "failed"
    assert "first_task_index 1 comes after last_task_index 0" in backwards.log
    assert airflow.measured("B/03") == [0]


def test_a_run_may_name_another_dataset(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag("plate", {"name": "Make Plate"}, {"name": "Measure"})
    other = airflow.home / "other data"

    run = airflow.test_dag("plate", {"dataset": "other", "zarr_dir": str(other)})

    assert run.state == "success", run.log
    assert [dataset.name for dataset in airflow.store.list_datasets()] == ["other"]
    assert airflow.store.images("other")[0].zarr_url == f"{other}/plate.zarr/B/03/0"


def test_a_known_dataset_needs_no_zarr_dir_and_takes_no_other(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", {"name": "Measure"}, zarr_dir=None)

    assert airflow.test_dag("plate").state == "success"
    other = airflow.test_dag("plate", {"zarr_dir": "/elsewhere"})

    assert other.state == "failed"
    assert "/elsewhere" in other.log
    assert str(airflow.data) in other.log


def test_a_dataset_that_does_not_exist_is_an_error_for_all_but_converters(airflow: AirflowHome) -> None:
    airflow.write_fractal_dag("plate", {"name": "Measure"}, {"name": "Measure"})

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert "'plate'" in run.log
    assert set(run.states.values()) == {"failed", "upstream_failed"}
    assert airflow.store.list_datasets() == []


def test_no_image_that_passes_the_filters_is_an_error_naming_task_and_filters(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    airflow.write_fractal_dag("plate", {"name": "Project"}, default_args={"retries": 3})

    run = airflow.test_dag("plate", {"attribute_filters": {"well": ["B03"]}})

    assert run.state == "failed"
    assert "Project: no image passes the type filters {'is_3D': True}" in run.log
    assert "the attribute filters {'well': ['B03']}" in run.log
    assert run.tries["0_project.select", -1] == 1  # trying again would end the same way


class TestTemplates:
    """Arguments and filters may be templates, and keep their types."""

    def test_a_run_parameter_keeps_its_type(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03")
        arguments = {
            "threshold": "{{ params.threshold }}",
            "note": "from {{ dag.dag_id }}",
            "output": "{{ params.output }}",
        }
        airflow.write_fractal_dag(
            "plate",
            {"name": "Measure", "args_parallel": arguments},
            params={"threshold": 3, "output": {}},
        )
        output = {
            "image_list_updates": [
                {"zarr_url": airflow.url("B/03"), "attributes": {"n": 1, "x": 1.5, "b": True}}
            ]
        }

        run = airflow.test_dag("plate", {"threshold": 7, "output": output})

        assert run.state == "success", run.log
        assert notes(airflow, "B/03")[0].startswith("7 'from plate'")
        (image,) = airflow.store.images("plate")
        assert repr([image.attributes[key] for key in "nxb"]) == "[1, 1.5, True]"

    def test_what_a_user_types_is_never_evaluated(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag(
            "plate",
            {"name": "Measure", "args_parallel": {"note": "{{ params.note }}"}},
            {"name": "Measure", "args_parallel": {"note": "it is {{ params.note }}"}},
            params={"note": ""},
        )

        run = airflow.test_dag("plate", {"note": "{{ 6 * 7 }} {% raw %}"})

        assert run.state == "success", run.log
        first, second = notes(airflow, "B/03")
        assert "'{{ 6 * 7 }} {% raw %}'" in first
        assert "'it is {{ 6 * 7 }} {% raw %}'" in second

    def test_defaults_of_run_parameters_may_be_templates(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag(
            "plate",
            {"name": "Make Plate"},
            dataset="plate of {{ dag.dag_id }}",
            zarr_dir=f"{airflow.data}/{{{{ dag.dag_id }}}}",
        )

        run = airflow.test_dag("plate")

        assert run.state == "success", run.log
        assert airflow.store.get("plate of plate").zarr_dir == f"{airflow.data}/plate"

    def test_a_value_that_breaks_the_schema_once_filled_in_fails_before_any_unit(
        self, airflow: AirflowHome
    ) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag(
            "plate",
            {"name": "Measure", "args_parallel": {"threshold": "{{ params.threshold }}"}},
            params={"threshold": 3},
            default_args={"retries": 2},
        )

        run = airflow.test_dag("plate", {"threshold": "many"})

        assert run.state == "failed"
        assert "args_parallel.threshold: 'many' is not of type 'integer'" in run.log
        assert run.tries["0_measure.select", -1] == 1
        assert airflow.measured("B/03") == [0]

    def test_a_name_that_does_not_exist_is_an_error_that_shows_the_template(
        self, airflow: AirflowHome
    ) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": {"note": "{{ parms.note }}"}})

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert "parms" in run.log


def notes(airflow: AirflowHome, well: str) -> list[str]:
    return Path(airflow.url(well), "runs.txt").read_text(encoding="utf-8").splitlines()
