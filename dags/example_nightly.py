"""
Every night, bring all datasets up to date whose name matches a pattern.

`example_nightly` lists the datasets and starts a run of `example_nightly_dataset` for each. Such a run computes
only what is new or has changed, and goes on without the images that fail. The night fails if one of its
datasets did: the task instance `process` that failed is labelled with the dataset, and links to its run.
"""

from __future__ import annotations

import os
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param, task

from fractal_airflow import FractalDag, TaskPackage

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))
CORE = TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core")

FractalDag(
    "example_nightly_dataset",
    workflow="nuclei.json",
    packages=CORE,
    dataset=None,  # every run names its own
    images="pending",
    on_failure="continue",
    schedule=None,
    max_active_runs=4,  # so many datasets at a time
    tags=["fractal", "example"],
)

with DAG(
    "example_nightly",
    schedule="0 20 * * *",
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_runs=1,  # a night that takes longer than a day lets the next one wait
    params={"datasets": Param("*", type="string", description="Which datasets: a pattern such as screen_*")},
    tags=["fractal", "example"],
    doc_md=__doc__,
):

    @task
    def list_datasets(pattern: str) -> list[dict[str, str]]:
        """Return the run parameters of each dataset's run."""
        from fractal_airflow.hooks.dataset_store import get_dataset_store

        names = [dataset.name for dataset in get_dataset_store().list_datasets()]
        return [{"dataset": name} for name in names if fnmatchcase(name, pattern)]

    TriggerDagRunOperator.partial(
        task_id="process",
        trigger_dag_id="example_nightly_dataset",
        logical_date=None,  # many runs at once
        fail_when_dag_is_paused=True,  # else its runs would wait for ever
        wait_for_completion=True,
        deferrable=True,
        poke_interval=10,
        map_index_template="{{ task.conf['dataset'] }}",
    ).expand(conf=list_datasets("{{ params.datasets }}"))
