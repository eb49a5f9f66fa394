"""Makes the pictures of the trigger form that the README shows; run it as ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from tests.services.airflow import make_home
from tests.services.browser import TriggerForm, open_page
from tests.services.scheduler import running_airflow, scheduler_settings
from tests.services.task_environments import PROJECT, core_tasks

DAG_ID = "nuclei"
DAG = """\
from pathlib import Path

from airflow.sdk import Param

from fractal_airflow import FractalDag, TaskPackage

ENVIRONMENTS = Path({environments!r})

FractalDag(
    {dag_id!r},
    workflow="workflow.json",
    packages=[
        TaskPackage.from_environment(ENVIRONMENTS / "uzh", "fractal-uzh-converters"),
        TaskPackage.from_environment(ENVIRONMENTS / "core", "fractal-tasks-core"),
    ],
    dataset="plate",
    zarr_dir="/data/plates",
    params={{"raw_plate": Param("/data/raw/plate", type="string", title="Raw plate")}},
)
"""
PICTURES = {"trigger-form.png": "Run Parameters", "trigger-form-task.png": "3: Measure Features"}
"""The section that is open in each picture."""


def main() -> None:
    """Open the form of the demo's workflow, and take its pictures."""
    environments = core_tasks().folder.parent
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home", **scheduler_settings())
        shutil.copy(PROJECT / "demo" / "workflow.json", home.dags)
        home.write_dag(DAG_ID, DAG.format(environments=str(environments), dag_id=DAG_ID))
        with (
            running_airflow(home, ("api-server", "dag-processor")) as airflow,
            open_page(height=2400) as page,
        ):
            form = TriggerForm.open(page, airflow, DAG_ID)
            for picture, section in PICTURES.items():
                form.open_section(section)
                for other in PICTURES.values():
                    button = form.dialog.get_by_role("button", name=other, exact=True)
                    expect(button).to_have_attribute("aria-expanded", str(other == section).lower())
                page.wait_for_timeout(1000)  # until the section has unfolded
                page.mouse.move(0, 0)
                form.dialog.screenshot(path=PROJECT / "docs" / picture)


if __name__ == "__main__":
    main()
