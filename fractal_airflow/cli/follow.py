"""The second half of ``airflow fractal run``: runs the plan with ``dag.test`` and tells how it goes."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from fractal_airflow.cli.output import print_error
from fractal_airflow.cli.run import DAG_ID, PLAN_FILE, RESOURCE_ID
from fractal_airflow.dag import FractalDag
from fractal_airflow.fractal import TaskPackage
from fractal_airflow.hooks.dataset_store import get_dataset_store


def main(folder: Path) -> int:
    """
    Run the plan of a folder, then remove the folder.

    :returns: the exit code: 0 where every unit of every step succeeded.
    """
    try:
        plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        migrate_metadata_database()
        state = run_dag(dag_of_plan(folder), plan["params"])
        steps = read_reports(folder / "reports")
        error = next((step["error"] for step in steps if step["error"]), None)
        if state != "success" and error is None:
            error = f"The run ended as {state}: see the log above"
        if plan["result"]:
            write_result(Path(plan["result"]), plan["dataset"], steps, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    dataset = get_dataset_store().get(plan["dataset"])
    print(f"Dataset {dataset.name!r}: version {dataset.version}, {dataset.image_count} images")
    if error:
        print_error(error.splitlines()[0])
    return 1 if error else 0


def dag_of_plan(folder: Path) -> FractalDag:
    """Return the DAG of the plan in a folder; the generated DAG file calls it, too."""
    plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    dag = FractalDag(
        DAG_ID,
        workflow=plan["workflow"],
        packages=[TaskPackage.from_directory(directory, python=python) for directory, python in plan["packages"]],
        dataset=plan["dataset"],
        zarr_dir=plan["zarr_dir"],
        resource=RESOURCE_ID,
        schedule=None,
    )
    dag.fileloc = str(folder / "dags" / "fractal_run.py")
    return dag


def migrate_metadata_database() -> None:
    """Make Airflow's tables in this run's own database, as ``airflow db migrate`` does."""
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["db", "migrate"])
    args.func(args)


def run_dag(dag: FractalDag, params: dict[str, Any]) -> str:
    """Run the DAG in this process; return the state in which its run ended."""
    # While Airflow fails the steps behind a failed one, it warns once a second that they cannot run.
    logging.getLogger(DAG.__module__).setLevel(logging.ERROR)
    return str(dag.test(run_conf=params).state)


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """Return the reports of the steps that ran, in their order."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/*/*.json")]
    return sorted(reports, key=lambda report: report["index"])


def write_result(path: Path, dataset: str, steps: list[dict[str, Any]], error: str | None) -> None:
    """Write what became of the run's images, steps and units."""
    result = {
        "status": "failed" if error else "done",
        "error": error,
        "images": get_dataset_store().export(dataset)["images"],
        "steps": [{key: step[key] for key in ("index", "name", "status", "units")} for step in steps],
    }
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
