"""
Every new plate becomes a dataset of its own: a watched folder, and a run of `fractal_demo` for each plate in it.

A folder is a new plate when its `tiles.csv` is there and nothing in it has changed for a minute. Of a plate that is
reported twice, as it may be after a crash, the second run is skipped: its id is the plate's own. A second plate of
the same name fails, and overwrites nothing. Unpause `fractal_demo`, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, AssetWatcher, task, task_group

from fractal_airflow import NewAcquisitionTrigger
from fractal_airflow.triggers.acquisitions_events import acquisitions_of_run, claim, run_id_of

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))

PLATES = Asset(
    "new_plates",
    watchers=[
        AssetWatcher(
            "acquisitions",
            NewAcquisitionTrigger(
                folder=DEMO / "acquisitions", marker="tiles.csv", quiet_minutes=1, poll_interval=30
            ),
        )
    ],
)

with DAG("example_new_plates", schedule=[PLATES], tags=["fractal", "example"], doc_md=__doc__):

    @task(inlets=[PLATES])
    def new_plates(**context: Any) -> list[dict[str, str]]:
        """Tell which plates this run is for: several may have come at once."""
        return acquisitions_of_run(PLATES, context)

    @task(multiple_outputs=True)
    def prepare(plate: dict[str, str]) -> dict[str, Any]:
        """Give a plate a place, and say how to run the workflow on it."""
        zarr_dir = DEMO / "plates" / plate["name"]
        claim(zarr_dir, plate)
        conf = {"dataset": plate["name"], "zarr_dir": str(zarr_dir), "raw_plate": plate["folder"]}
        return {"run_id": run_id_of(plate), "conf": conf}

    @task_group
    def one_plate(plate: dict[str, str]) -> None:
        prepared: Any = prepare(plate)
        TriggerDagRunOperator(
            task_id="start",
            trigger_dag_id="fractal_demo",
            trigger_run_id=prepared["run_id"],
            conf=prepared["conf"],
            logical_date=None,
            skip_when_already_exists=True,
        )

    one_plate.expand(plate=new_plates())
