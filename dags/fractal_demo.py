"""
From raw microscope images to measured nuclei: the DAG behind `make demo`.

A whole workflow file as a DAG. Its raw images are a run parameter of its own, `raw_plate`, which the
workflow's arguments name as `{{ params.raw_plate }}`.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import Param

from fractal_airflow import FractalDag, TaskPackage

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))

FractalDag(
    "fractal_demo",
    workflow=Path(__file__).parent.parent / "demo" / "workflow.json",
    packages=[
        TaskPackage.from_environment(DEMO / "environments" / "uzh", "fractal-uzh-converters"),
        TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core"),
    ],
    dataset="demo_plate",
    zarr_dir=str(DEMO / "zarr"),
    params={
        "raw_plate": Param(
            str(DEMO / "raw"),
            type="string",
            title="Raw plate",
            description="Folder with the TIFF files of one plate and their tiles.csv.",
        )
    },
    events="end",  # whoever waits for its dataset starts when the run is over
    schedule=None,
    tags=["fractal", "demo"],
)
