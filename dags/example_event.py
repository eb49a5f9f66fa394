"""
Start when another DAG has changed a dataset, and process just the images that it changed.

The DAG behind `make demo` says `events="end"`: when one of its runs is over, and has changed the dataset, this one
starts. (Where every step is an event, a DAG such as this one would begin while the other is still at the same images.)
Several events become one run where this DAG is busy: that is what `max_active_runs=1` is for.
"""

from __future__ import annotations

import os
from pathlib import Path

from fractal_airflow import FractalDag, FractalDataset, TaskPackage

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))
CORE = TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core")

FractalDag(
    "example_event",
    workflow="nuclei.json",
    packages=CORE,
    dataset="demo_plate",
    images="event",
    schedule=[FractalDataset("demo_plate").asset],
    max_active_runs=1,
    tags=["fractal", "example"],
    doc_md=__doc__,
)
