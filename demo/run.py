"""Runs the demo under a real Airflow: from the raw images of a plate to the nuclei in its wells.

    python run.py

Run it with the Python that has Airflow and this project (``make demo`` does). Everything is written below
.demo/ at the project's root, or below the folder that the variable FRACTAL_DEMO_DIR names.
"""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path

from airflow_start import running_airflow, wait_for_dag
from command import only_one, run_command
from environments import CONVERTERS, CORE, make_environments
from follow import RunFollower
from layout import DAG_ID, PROJECT, Layout, RunFolder, step_names
from nuclei_image import fetch_image
from summary import print_summary

from fractal_airflow.dataset import DatasetStore

COMPONENTS = ("api-server", "dag-processor", "scheduler")  # nothing of the demo waits for a trigger


def prepare(layout: Layout, run: RunFolder) -> None:
    """Make what the run starts from: the task environments and the raw plate."""
    make_environments(layout.environments)
    image = fetch_image(layout.image)
    print("Cutting the raw plate ...", flush=True)
    run_script(CONVERTERS.python(layout.environments), "raw_plate.py", image, run.raw_plate)


def run_workflow(layout: Layout, run: RunFolder, store: DatasetStore) -> None:
    """
    Start Airflow, run the workflow, and stop Airflow again.

    :raises DemoError: where a step fails.
    """
    with running_airflow(layout, COMPONENTS) as (api, components):
        wait_for_dag(api, components)
        params = {"dataset": run.run_id, "zarr_dir": str(run.zarr_dir), "raw_plate": str(run.raw_plate)}
        api.trigger(DAG_ID, run.run_id, params)
        print(f"DAG {DAG_ID}, run {run.run_id}, to be seen at {api.url} while it runs", flush=True)
        RunFollower(api, components, store, DAG_ID, run.run_id, step_names()).follow()


def show_results(layout: Layout, run: RunFolder, store: DatasetStore) -> None:
    """Count the nuclei, draw the plate, and print what came out and where everything lies."""
    dataset = store.export(run.run_id)
    run.dataset.write_text(json.dumps(dataset, indent=1))
    python = CORE.python(layout.environments)
    run_script(python, "nuclei.py", run.dataset, run.nuclei)
    run_script(python, "picture.py", run.dataset, run.nuclei, run.picture)
    places = {
        "Picture": run.picture,
        "OME-Zarr plates": run.zarr_dir,
        "Image list": run.dataset,
        "Raw plate": run.raw_plate,
        "Logs of the units": layout.airflow.work_dir / DAG_ID / run.run_id,
        "Logs of Airflow": layout.airflow.folder / "logs",
        "Dataset store": layout.airflow.dataset_store,
        "Task environments": layout.environments,
    }
    print_summary(dataset, json.loads(run.nuclei.read_text()), places)
    print("\nSee the run in Airflow: make ui")


def run_script(python: Path, script: str, *arguments: Path) -> None:
    """Run one of the demo's scripts in a task environment."""
    subprocess.run([python, PROJECT / "demo" / script, *arguments], check=True, stdout=subprocess.DEVNULL)


def demo() -> None:
    """Run the demo."""
    layout = Layout.from_environment()
    run = layout.run(f"demo_{datetime.now():%Y-%m-%dT%H-%M-%S}")
    store = DatasetStore(layout.airflow.dataset_store)
    with only_one(layout.home):
        prepare(layout, run)
        run_workflow(layout, run, store)
        show_results(layout, run, store)


if __name__ == "__main__":
    raise SystemExit(run_command(demo))
