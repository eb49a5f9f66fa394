"""Task groups among other tasks in a DAG that the user writes."""

from __future__ import annotations

import json

from tests.services.airflow import FAKE_TASKS, AirflowHome, fake_task

HEADER = f"""\
from airflow.sdk import DAG, Param, chain, task

from fractal_airflow import FractalTaskGroup, FractalWorkflowGroup, TaskPackage

fake = TaskPackage.from_directory({str(FAKE_TASKS)!r})
"""


def test_task_groups_and_plain_tasks_make_a_dag(airflow: AirflowHome) -> None:
    airflow.write_dag(
        "composed",
        HEADER
        + f"""
@task
def choose_wells():
    return ["B/03", "C/05"]

@task
def count(state):
    return state["version"]

with DAG("composed", params={{"threshold": 4}}):
    wells = choose_wells()
    convert = FractalTaskGroup(
        "Make Plate", fake, dataset="{{{{ dag.dag_id }}}}", zarr_dir={str(airflow.data)!r},
        args_non_parallel={{"wells": "{{{{ ti.xcom_pull(task_ids='choose_wells') }}}}"}},
    )
    project = FractalTaskGroup("Project", fake, dataset=convert.output)
    measure = FractalTaskGroup(
        "Measure",
        fake,
        dataset=project.output,
        args_parallel={{"threshold": "{{{{ params.threshold + 1 }}}}"}},
    )
    wells >> convert
    count(project.output) >> measure
""",
    )

    run = airflow.test_dag("composed")

    assert run.state == "success", run.log
    images = [image.zarr_url for image in airflow.store.images("composed")]
    assert images == [
        *(airflow.url(well) for well in ("B/03", "C/05")),
        *(airflow.url(well) + "_mip" for well in ("B/03", "C/05")),
    ]
    notes = (airflow.data / "plate.zarr/B/03/0_mip/runs.txt").read_text().splitlines()
    assert notes[-1].startswith("5 ")


def test_a_group_with_a_dataset_by_name_reads_it_afresh(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04")
    airflow.write_dag(
        "separate",
        HEADER
        + """
with DAG("separate", params={"wells": Param(["B03"], type="array")}, render_template_as_native_obj=True):
    first = FractalTaskGroup(
        "Measure", fake, group_id="first", dataset="plate", attribute_filters={"well": "{{ params.wells }}"}
    )
    second = FractalTaskGroup("Measure", fake, group_id="second", dataset="plate", resource="local")
    first >> second
""",
    )

    run = airflow.test_dag("separate", {"wells": ["B04"]})

    assert run.state == "success", run.log
    assert airflow.measured("B/03", "B/04") == [1, 2]


def test_a_workflow_is_one_group_inside_a_dag(airflow: AirflowHome) -> None:
    airflow.write_workflow("plate_workflow", {"name": "Make Plate"}, {"name": "Project"}, {"name": "Measure"})
    airflow.write_dag(
        "around",
        HEADER
        + f"""
@task
def announce(state):
    print("VERSION", state["version"], state["type_filters"])

with DAG("around"):
    whole = FractalWorkflowGroup(
        "plate_workflow.json", fake, dataset="plate", zarr_dir={str(airflow.data)!r}, last_task_index=1
    )
    last = FractalTaskGroup("Summarise", fake, dataset=whole.output)
    announce(last.output)
""",
    )

    run = airflow.test_dag("around")

    assert run.state == "success", run.log
    assert run.state_of("plate_workflow.2_measure.run") == "skipped"
    assert "{'is_3D': False}" in run.log
    assert json.loads((airflow.data / "summary.json").read_text()) == [
        airflow.url(well) + "_mip" for well in ("B/03", "B/04")
    ]


def test_a_workflow_group_may_be_there_twice_and_within_another_group(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    workflow = {"name": "Measuring", "task_list": [{"task": fake_task("Measure")}]}
    airflow.write_dag(
        "twice",
        HEADER
        + f"""
from airflow.sdk import TaskGroup

workflow = {workflow!r}
with DAG("twice"), TaskGroup("outer"):
    first = FractalWorkflowGroup(workflow, fake, dataset="plate", group_id="first")
    FractalWorkflowGroup(workflow, fake, dataset=first.output, group_id="second")
""",
    )

    run = airflow.test_dag("twice")

    assert run.state == "success", run.log
    assert run.state_of("outer.second.0_measure.merge") == "success"
    assert airflow.measured("B/03") == [2]
