"""Whole runs of ``airflow fractal run``, each in the processes that a user starts."""

from __future__ import annotations

import json
from pathlib import Path

from fractal_airflow.dataset import DatasetStore, StepRun
from tests.cli.runs import PACKAGE, image_names, result, run
from tests.services.airflow import FAKE_TASKS, AirflowHome
from tests.services.postgres import PostgresServer

MAKE = {"name": "Make Plate", "args_non_parallel": {"wells": ["B/03", "B/04"]}}


def test_a_workflow_makes_a_dataset_in_an_airflow_that_was_never_used(airflow: AirflowHome) -> None:
    workflow = airflow.write_workflow("nuclei", MAKE, {"name": "Project"}, {"name": "Measure"})

    done = airflow.cli(
        *("fractal", "run", "--workflow", "nuclei.json", "--package", PACKAGE, "--dataset", "plate"),
        *("--zarr-dir", str(airflow.data), "--result", "../result.json"),
        cwd=workflow.parent,
    )

    b03, b04 = airflow.url("B/03"), airflow.url("B/04")
    made = {"plate": "plate", "well": "B03"}, {"plate": "plate", "well": "B04"}
    projected = [f"{b03}_mip", f"{b04}_mip"]
    units = [{"zarr_urls": [url], "status": "done"} for url in projected]
    assert result(airflow) == {
        "status": "done",
        "error": None,
        "images": [
            {"zarr_url": b03, "origin": None, "types": {"is_3D": True}, "attributes": made[0]},
            {"zarr_url": b04, "origin": None, "types": {"is_3D": True}, "attributes": made[1]},
            {"zarr_url": f"{b03}_mip", "origin": b03, "types": {"is_3D": False}, "attributes": made[0]},
            {"zarr_url": f"{b04}_mip", "origin": b04, "types": {"is_3D": False}, "attributes": made[1]},
        ],
        "steps": [
            {
                "index": 0,
                "name": "Make Plate",
                "status": "done",
                "units": [{"zarr_urls": [], "status": "done"}],
            },
            {"index": 1, "name": "Project", "status": "done", "units": units},
            {"index": 2, "name": "Measure", "status": "done", "units": units},
        ],
    }
    assert result(airflow)["images"] == airflow.store.export("plate")["images"]
    lines = done.stdout.splitlines()
    assert lines[0] == "Workflow 'nuclei': 3 steps, on dataset 'plate' (version 1, 0 images)"
    assert [line for line in lines if line.startswith("[")] == [
        "[1/3] Make Plate: a converter, takes no images",
        "[2/3] Project: 2 images",
        "[3/3] Measure: 2 images",
    ]
    assert lines.count("2/2 units") == 2
    assert lines[-1].startswith("Done after ")
    assert lines[-1].endswith(": dataset 'plate' is at version 3, with 4 images")
    assert done.stderr == ""
    assert not (airflow.home / "airflow.db").exists()
    # To those who wait for events of the dataset, the next one tells of this run.
    assert airflow.store.merge("plate", StepRun("d", "r", 0, "t"), lambda images, _: images).since == 0


def test_a_run_goes_on_with_a_part_of_a_workflow_and_a_choice_of_images(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", "C/03", is_3D=True)
    projected = [f"{airflow.url(well)}_mip" for well in ("B/03", "C/03")]
    workflow = airflow.write_workflow(
        "part",
        MAKE,
        {"name": "Project"},
        {"name": "Summarise", "args_non_parallel": {"remove": ["C/03/0_mip"]}},
        {"name": "Measure"},
        {"name": "Measure", "alias": "Not this one"},
    )

    run(
        *(airflow, workflow, "--first-task-index", "1", "--last-task-index", "3"),
        *("--attribute-filters", '{"well": ["B03", "C03"]}', "--type-filters", '{"is_3D": true}'),
    )

    steps = result(airflow)["steps"]
    assert [(step["index"], step["name"]) for step in steps] == [
        *((1, "Project"), (2, "Summarise"), (3, "Measure"))
    ]
    # What Project makes is flat, and its output types join the run's filters: Summarise gets the flat ones alone.
    assert steps[1]["units"] == [{"zarr_urls": projected, "status": "done"}]
    # A removed image is no later step's.
    assert steps[2]["units"] == [{"zarr_urls": [projected[0]], "status": "done"}]
    assert image_names(result(airflow)["images"]) == ["B/03/0", "B/04/0", "C/03/0", "B/03/0_mip"]


def test_a_failed_unit_fails_its_step_after_the_others_are_merged_and_no_later_step_starts(
    airflow: AirflowHome,
) -> None:
    airflow.add_images("B/03", "B/04", "B/05", is_3D=True)
    workflow = airflow.write_workflow(
        "partly", {"name": "Project", "args_parallel": {"fail_for": ["B/04/0_mip"]}}, {"name": "Measure"}
    )

    done = run(airflow, workflow, code=1)

    told = result(airflow)
    assert told["status"] == "failed"
    assert told["error"].startswith("Project: 1 of 3 units failed. First error (")
    assert image_names(told["images"]) == ["B/03/0", "B/04/0", "B/05/0", "B/03/0_mip", "B/05/0_mip"]
    (step,) = told["steps"]
    assert (step["index"], step["name"], step["status"]) == (0, "Project", "failed")
    assert [unit["status"] for unit in step["units"]] == ["done", "failed", "done"]
    assert ["error" in unit for unit in step["units"]] == [False, True, False]
    assert "exit code 1" in step["units"][1]["error"]
    assert "is out of focus" in step["units"][1]["error"]
    assert airflow.measured("B/03", "B/04", "B/05") == [0, 0, 0]
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: Project: 1 of 3 units failed")
    assert done.stdout.count("ValueError: ") == 1
    assert "Failed after " in done.stdout


def test_outputs_that_contradict_each_other_change_nothing_and_fail_every_unit(airflow: AirflowHome) -> None:
    urls = airflow.add_images("B/03", "B/04")
    before = airflow.store.export("plate")["images"]
    updates = {
        f"B/0{n}/0": {"image_list_updates": [{"zarr_url": urls[0], "attributes": {"n": n}}]} for n in (3, 4)
    }
    workflow = airflow.write_workflow("twice", {"name": "Measure", "args_parallel": {"output_for": updates}})

    run(airflow, workflow, code=1)

    told = result(airflow)
    assert told["images"] == before == airflow.store.export("plate")["images"]
    (step,) = told["steps"]
    assert step["status"] == "failed"
    assert [unit["status"] for unit in step["units"]] == ["failed", "failed"]
    assert [unit["zarr_urls"] for unit in step["units"]] == [[url] for url in urls]
    for text in (told["error"], *(unit["error"] for unit in step["units"])):
        assert f"{urls[0]!r} is updated twice" in text


def test_a_failed_init_fails_its_step_with_one_unit_for_all_images(airflow: AirflowHome) -> None:
    urls = airflow.add_images("B/03", "B/04", is_3D=True)
    workflow = airflow.write_workflow(
        "init", {"name": "Project", "args_non_parallel": {"fail": True}}, {"name": "Measure"}
    )

    run(airflow, workflow, code=1)

    (step,) = result(airflow)["steps"]
    ((unit),) = step["units"]
    assert (unit["zarr_urls"], unit["status"]) == (urls, "failed")
    assert "no plane to project" in unit["error"]
    assert image_names(result(airflow)["images"]) == ["B/03/0", "B/04/0"]


def test_a_step_without_images_fails_and_names_its_filters(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", is_3D=True)
    workflow = airflow.write_workflow("none", {"name": "Project"}, {"name": "Measure"})

    done = run(airflow, workflow, "--attribute-filters", '{"well": ["C03"]}', code=1)

    told = result(airflow)
    assert told["error"].startswith("Project: no image passes the type filters {'is_3D': True} and")
    assert "{'well': ['C03']}" in told["error"]
    assert told["steps"] == [{"index": 0, "name": "Project", "status": "failed", "units": []}]
    assert done.stderr == f"error: {told['error']}\n"


ODD = "a 'b' \"c\" $(touch hacked) `d`\n*; ünïcödé %s {x}"


def test_odd_paths_and_arguments_simply_work(airflow: AirflowHome) -> None:
    data = airflow.home / ODD / "data: x"
    work = airflow.home / ODD / "work"
    package = airflow.home / f"{ODD}:fake_tasks"
    package.parent.mkdir(exist_ok=True)
    package.symlink_to(FAKE_TASKS)
    image = data / "plate.zarr" / ODD.replace("\n", " ") / "0"
    image.mkdir(parents=True)
    images = airflow.home / "the images.json"
    images.write_text(json.dumps([{"zarr_url": str(image), "attributes": {"well": ODD}}]), encoding="utf-8")
    workflow = airflow.write_workflow(
        "odd",
        {"name": "Measure", "args_parallel": {"note": ODD}},
        {"name": "Measure", "args_parallel": {"note": "run {{ run_id[:6] }}", "threshold": "{{ 40 + 2 }}"}},
    )
    document = json.loads(workflow.read_text(encoding="utf-8"))
    for task in document["task_list"]:
        task["task"]["pkg_name"] = package.name
    workflow.write_text(json.dumps(document), encoding="utf-8")
    airflow.settings["AIRFLOW_CONN_ODD"] = json.dumps(
        {
            "conn_type": "fractal",
            "extra": {"work_dir": str(work), "jobs_runner_config": {"parallel_tasks_per_job": 1}},
        }
    )

    airflow.cli(
        *("fractal", "run", "--workflow", str(workflow), "--package", str(package)),
        *("--dataset", ODD, "--zarr-dir", str(data), "--images", str(images), "--resource", "odd"),
        *("--attribute-filters", json.dumps({"well": [ODD]}), "--result", str(airflow.home / "result.json")),
        cwd=data,
    )

    assert [step["units"] for step in result(airflow)["steps"]] == [
        [{"zarr_urls": [str(image)], "status": "done"}]
    ] * 2
    assert airflow.store.get(ODD).image_count == 1
    first, second = (image / "runs.txt").read_text(encoding="utf-8").splitlines()
    assert first.startswith(f"0 {ODD!r}")
    assert second.startswith("42 'run manual'")
    assert list(work.rglob("results.jsonl"))
    assert not airflow.runs.exists()
    assert not list(Path(airflow.home).rglob("hacked"))


def test_the_dataset_store_may_be_a_postgresql_that_a_connection_names(
    airflow: AirflowHome, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    airflow.settings["AIRFLOW_CONN_DATASETS"] = url
    airflow.settings["AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID"] = "datasets"
    image = {"zarr_url": airflow.url("B/03"), "attributes": {"well": "B03"}}
    Path(image["zarr_url"]).mkdir(parents=True)
    export = {"name": "another", "zarr_dir": "/somewhere/else", "images": [image]}
    images = airflow.home / "export.json"
    images.write_text(json.dumps(export), encoding="utf-8")
    workflow = airflow.write_workflow("stored", {"name": "Measure"})

    run(airflow, workflow, "--images", str(images))

    assert airflow.measured("B/03") == [1]
    assert DatasetStore(url).images("plate")[0].attributes == {"well": "B03"}
    assert not (airflow.home / "fractal_datasets.db").exists()
    listed = json.loads(airflow.cli("fractal", "dataset", "list", "--output", "json").stdout)
    assert [(dataset["name"], dataset["images"]) for dataset in listed] == [("plate", 1)]


def test_converters_run_anywhere_and_an_empty_parallelization_list_is_an_empty_output(
    airflow: AirflowHome,
) -> None:
    workflow = airflow.write_workflow(
        "mixed",
        {"name": "Convert Plate", "args_non_parallel": {"wells": ["B/03"]}},
        {"name": "Project", "args_non_parallel": {"nothing_to_do": True}},
        {"name": "Make Plate", "args_non_parallel": {"wells": ["B/04"]}},
        {"name": "Measure"},
    )

    run(airflow, workflow)

    told = result(airflow)
    assert [step["status"] for step in told["steps"]] == ["done"] * 4
    assert [len(step["units"]) for step in told["steps"]] == [1, 0, 1, 1]
    assert told["steps"][0]["units"] == [{"zarr_urls": [airflow.url("B/03")], "status": "done"}]
    # Project returned nothing, so its input image counts as updated, with the types of its output.
    types = {url: image["types"] for image in told["images"] for url in [image["zarr_url"]]}
    assert types == {airflow.url("B/03"): {"is_3D": False}, airflow.url("B/04"): {"is_3D": True}}
    # No filter concerns a converter, but its output types join the run's filters, over those of Project.
    assert told["steps"][3]["units"] == [{"zarr_urls": [airflow.url("B/04")], "status": "done"}]


def test_a_run_may_choose_other_arguments_and_go_on_without_the_images_that_fail(
    airflow: AirflowHome,
) -> None:
    airflow.add_images("B/03", "B/04")
    mended = airflow.home / "mended"
    failing = {"fail_for": ["B/04/0"], "fail_until": str(mended)}
    workflow = airflow.write_workflow(
        "choices", {"name": "Measure", "args_parallel": failing}, {"name": "Measure", "alias": "Again"}
    )
    other = ("--arguments", json.dumps({"0_measure.args_parallel.threshold": 7}))

    done = run(airflow, workflow, "--on-failure", "continue", *other, code=1)
    mended.touch()
    again = run(airflow, workflow, "--process", "failed", *other)

    assert airflow.measured("B/03", "B/04") == [2, 3]
    notes = Path(airflow.url("B/03"), "runs.txt").read_text(encoding="utf-8").splitlines()
    assert [note.split()[0] for note in notes] == ["7", "0"]
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: choices: 1 image failed in 1 step")
    assert again.stderr == ""


def test_the_runs_of_two_workflows_do_not_take_each_other_for_their_own(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    first = airflow.write_workflow("first", {"name": "Measure"})
    second = airflow.write_workflow("second", {"name": "Measure"})
    run(airflow, first, "--process", "pending")

    run(airflow, second, "--process", "pending")
    again = run(airflow, second, "--process", "pending")

    assert airflow.measured("B/03") == [2]
    assert "nothing to do" in again.stdout
