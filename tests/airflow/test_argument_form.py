"""Runs that choose arguments, under Airflow's own task runner: what reaches the tasks and the history."""

from __future__ import annotations

import json
from typing import Any

from fractal_airflow.execution.run_folder import run_folder
from tests.services.airflow import AirflowHome, RunResult

KEY = "0_measure.args_parallel"


def arguments(airflow: AirflowHome, run: RunResult) -> dict[str, Any]:
    """The arguments that the only unit of the first step was called with, without the image."""
    (file,) = run_folder(airflow.runs, "plate", run.run_id, 0, "Measure").rglob("*-args.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    del found["zarr_url"]
    return dict(found)


def test_a_text_that_is_typed_in_is_no_template(airflow: AirflowHome) -> None:
    typed = "{{ 6 * 7 }}"
    airflow.add_images("B/03")
    airflow.write_fractal_dag(
        "plate", {"name": "Measure", "args_parallel": {"note": "{{ params.note }}"}}, params={"note": "a"}
    )

    # The same text in two fields: Airflow keeps what was typed where the author's default was.
    run = airflow.test_dag("plate", {"note": typed, f"{KEY}.fail_until": typed})

    assert run.state == "success", run.log
    assert arguments(airflow, run) == {"note": typed, "fail_until": typed}


def test_what_a_run_changes_is_its_own_and_what_it_leaves_is_the_workflows(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    own = {"threshold": 3, "sigma": 2.0}
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": own})

    changed = airflow.test_dag("plate", {f"{KEY}.threshold": 7, f"{KEY}.sigma": None})
    unchanged = airflow.test_dag("plate", {f"{KEY}.threshold": 3, f"{KEY}.sigma": 2, f"{KEY}.note": None})
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": own}, arguments_form=False)
    without = airflow.test_dag("plate")
    refused = airflow.test_dag("plate", {f"{KEY}.threshold": 7})

    assert refused.state == "failed"
    assert f"'{KEY}.threshold', and there is no such argument in its form" in refused.log
    assert [run.state for run in (changed, unchanged, without)] == ["success"] * 3, without.log
    assert arguments(airflow, changed) == {"threshold": 7, "sigma": None}
    assert json.dumps(arguments(airflow, unchanged)) == json.dumps(own)
    assert json.dumps(arguments(airflow, without)) == json.dumps(own)
    first, second, third = (
        airflow.store.statuses("plate", run_id=run.run_id)[0].fingerprint
        for run in (changed, unchanged, without)
    )
    assert first != second
    assert second == third
