"""The workflow as it ran is a workflow file like any other."""

from __future__ import annotations

from fractal_airflow.fractal import load_workflow
from fractal_airflow.provenance.workflow_file import workflow_as_run
from tests.unit.provenance.runs import a_run, a_step, of_every_kind


def test_it_has_the_steps_that_ran_with_what_they_ran_with() -> None:
    segment = a_step(
        1,
        "Nuclei",
        task_name="Segment",
        type_filters={"is_3D": False},
        meta_parallel={"cpus_per_task": 2},
        arguments={"parallel": {"channel": "DAPI", "sizes": [1, 2.5, None]}},
        description="finds them",
    )
    left_out = a_step(0, "Convert", end="left out", arguments=None)

    workflow = load_workflow(workflow_as_run(a_run(left_out, segment)))

    (task,) = workflow.task_list
    assert (workflow.name, task.name, task.alias, task.description) == (
        "Count nuclei",
        "Nuclei",
        "Nuclei",
        "finds them",
    )
    assert task.task.model_dump() == {"pkg_name": "fake-tasks", "version": "1.0", "name": "Segment"}
    assert task.args_parallel == {"channel": "DAPI", "sizes": [1, 2.5, None]}
    assert (task.args_non_parallel, task.meta_non_parallel) == (None, None)
    assert (task.type_filters, task.meta_parallel) == ({"is_3D": False}, {"cpus_per_task": 2})


def test_steps_that_failed_are_in_it() -> None:
    workflow = load_workflow(workflow_as_run(of_every_kind()))

    assert [task.name for task in workflow.task_list] == ["Convert", "Segment <all>", "Measure", "Conflict"]
