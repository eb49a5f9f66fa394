"""A biologist opens the trigger form in a browser, changes arguments, and the tasks really get them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fractal_airflow.execution.run_folder import run_folder
from tests.services.airflow import AirflowHome, make_home
from tests.services.browser import TriggerForm, open_page
from tests.services.requirements import need
from tests.services.scheduler import RunningAirflow, running_airflow, scheduler_settings


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[RunningAirflow]:
    """An Airflow with scheduler, DAG processor and API server."""
    need("chromium", install="chromium")
    home = make_home(tmp_path_factory.mktemp("browser") / "home", migrated_database, **scheduler_settings())
    with running_airflow(home) as running:
        yield running


@pytest.fixture(scope="module")
def page(airflow: RunningAirflow) -> Iterator[Page]:
    """A page of a browser."""
    with open_page() as page:
        yield page


@pytest.fixture
def home(airflow: RunningAirflow, request: pytest.FixtureRequest) -> AirflowHome:
    """The home of the running Airflow, with image paths of this test's own."""
    return AirflowHome(airflow.home.home, airflow.home.settings, data_name=request.node.name)


def arguments(home: AirflowHome, dag_id: str, run_id: str, number: int, step: str) -> list[dict[str, Any]]:
    """The arguments that the units of a step were called with, without the image."""
    files = run_folder(home.runs, dag_id, run_id, number, step).rglob("*-args.json")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(files)]
    return [{name: value for name, value in each.items() if name != "zarr_url"} for each in found]


def test_changed_arguments_reach_their_tasks(airflow: RunningAirflow, home: AirflowHome, page: Page) -> None:
    home.add_images("B/03", dataset="changed")
    home.write_fractal_dag(
        "changed",
        {"name": "Measure", "args_parallel": {"threshold": 3, "note": "as ever"}},
        {
            "name": "Measure",
            "alias": "Measure again",
            "args_parallel": {"threshold": 4, "sigma": 2.0, "note": "x", "channel": {"identifier": "DAPI"}},
        },
        dataset="changed",
    )

    form = TriggerForm.open(page, airflow, "changed")
    assert form.sections == ["0: Measure", "1: Measure again"]
    form.open_section("0: Measure")
    expect(form.row("Threshold")).to_contain_text("Pixels above this are nuclei.")
    expect(form.number("Threshold")).to_have_value("3")
    form.number("Threshold").fill("7")
    form.choose("Method", "Fixed")
    form.open_section("1: Measure again")
    form.write_json("Channel", '{"identifier": "GFP", "index": 1}')
    form.number("Sigma").fill("")  # the task takes none
    form.text("Note").fill("")  # the task takes none: the argument is left out
    run_id = form.start()

    page.goto(f"{home.settings['AIRFLOW__API__BASE_URL']}/dags/changed/runs/{run_id}")
    expect(page.get_by_test_id("header-card")).to_contain_text("Success", timeout=120_000)
    assert arguments(home, "changed", run_id, 0, "Measure") == [
        {"threshold": 7, "note": "as ever", "method": "Fixed"}
    ]
    assert arguments(home, "changed", run_id, 1, "Measure again") == [
        {"threshold": 4, "sigma": None, "channel": {"identifier": "GFP", "index": 1}}
    ]


def test_only_the_images_that_failed_are_chosen_and_no_argument_is_changed(
    airflow: RunningAirflow, home: AirflowHome, page: Page
) -> None:
    mended = Path(home.home, "mended")
    own = {"sigma": 2.0, "channel": {"identifier": "DAPI"}, "fail_for": ["B/04/0"], "fail_until": str(mended)}
    home.add_images("B/03", "B/04", dataset="failed")
    home.write_fractal_dag("failed", {"name": "Measure", "args_parallel": own}, dataset="failed")
    assert airflow.run("failed")[1] == "failed"
    mended.touch()

    form = TriggerForm.open(page, airflow, "failed")
    form.choose("Images", "failed")
    run_id = form.start()

    assert airflow.wait_for_end("failed", run_id) == "success", airflow.logs()
    assert home.measured("B/03", "B/04") == [1, 2]
    # To the letter: a browser writes 2.0 as 2.
    assert json.dumps(arguments(home, "failed", run_id, 0, "Measure")) == json.dumps([own])


def test_a_value_that_breaks_its_schema_starts_nothing_and_is_named(
    airflow: RunningAirflow, home: AirflowHome, page: Page
) -> None:
    home.write_fractal_dag("broken", {"name": "Measure"}, dataset="broken")

    form = TriggerForm.open(page, airflow, "broken")
    form.open_section("0: Measure")
    form.write_json("Channel", '{"index": "one"}')
    form.submit()

    expect(form.dialog).to_contain_text("Invalid input for param 0_measure.args_parallel.channel")
    expect(form.dialog).to_contain_text("'identifier' is a required property")
    assert airflow.call("GET", "/dags/broken/dagRuns")["total_entries"] == 0
