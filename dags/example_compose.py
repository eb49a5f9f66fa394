"""
Fractal tasks beside plain Airflow tasks: two groups, and a report between them and the end.

What one group leaves (`group.output`) is what the next one starts from: the dataset and the filters of the
run. Needs the task environments of the demo (`make demo` makes them), and a dataset: `make demo` leaves one, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from fractal_airflow import FractalTaskGroup, TaskPackage

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))
CORE = TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core")

with DAG(
    "example_compose",
    schedule=None,
    params={
        "dataset": Param("demo_plate", type="string", description="A dataset with projected images."),
        "wells": Param(["B03"], type="array", description="The wells to segment."),
        "threshold": Param(0.4, type="number", minimum=0, maximum=1),
    },
    tags=["fractal", "example"],
    doc_md=__doc__,
):
    segment = FractalTaskGroup(
        "Threshold Segmentation",
        CORE,
        dataset="{{ params.dataset }}",
        attribute_filters={"well": "{{ params.wells }}"},
        type_filters={"is_3D": False},
        args_parallel={
            "channel": {"mode": "label", "identifier": "DAPI"},
            "output_label_name": "bright_nuclei",
            "segmentation_method": {"method": "Simple Threshold", "threshold": "{{ params.threshold }}"},
        },
    )

    @task
    def announce(run: Any) -> None:
        """Say what was segmented; any operator could stand here."""
        print(f"Dataset {run['dataset']!r} is at version {run['version']}")

    measure = FractalTaskGroup(
        "Measure Features",
        CORE,
        dataset=segment.output,
        args_parallel={"input_label_name": "bright_nuclei", "output_table_name": "bright_nuclei"},
    )

    announce(segment.output) >> measure
