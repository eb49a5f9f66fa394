"""What this package adds to the time in which Airflow parses a DAG file, in processor time.

Every round is a new Python that has Airflow's own modules loaded, as Airflow's DAG processor has: another DAG
is made first, since the first one loads more of Airflow. Run it as ``python -m benchmarks.parse_time``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.services.task_environments import core_tasks

ROUNDS = 7
STEPS = 20
IMPORT_LIMIT_MS = 50.0
PARSE_LIMIT_MS = 100.0
WORKFLOW = Path(__file__).parents[1] / "demo" / "workflow.json"


def main() -> None:
    """Measure some rounds and print the best and the middle one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--environments", type=Path, help="the folder with core and uzh; default: the demo's")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    environments = options.environments or core_tasks().folder.parent
    if options.once:
        print(json.dumps(measure(environments)))
        return
    rounds = [one_round(environments) for _ in range(options.rounds)]
    show("import fractal_airflow", sorted(each["package"] for each in rounds), IMPORT_LIMIT_MS)
    show(f"a DAG file with {STEPS} steps of two packages", sorted(map(total, rounds)), PARSE_LIMIT_MS)
    best = min(rounds, key=total)
    print("  of which", ", ".join(f"{name} {best[name]:.0f} ms" for name in ("imports", "packages", "dag")))


def one_round(environments: Path) -> dict[str, float]:
    """Measure in a new process, with an Airflow home that it throws away."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.parse_time", "--once", "--environments", str(environments)],
            env={**os.environ, "AIRFLOW_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(environments: Path) -> dict[str, float]:
    """Return milliseconds of the package's import, of what a DAG file then imports, and of making its DAG."""
    from airflow.sdk import DAG, BaseHook, BaseOperator, Param, TaskGroup, XComArg, conf  # noqa: F401

    with DAG("first"), TaskGroup("group"):
        BaseOperator(task_id="task")
    workflow = long_workflow()
    gc.collect()  # the garbage of Airflow's own imports is not ours

    laps = [time.process_time()]
    import fractal_airflow

    laps.append(time.process_time())
    dag_class, package_class = fractal_airflow.FractalDag, fractal_airflow.TaskPackage
    laps.append(time.process_time())
    packages = [
        package_class.from_environment(environments / "uzh", "fractal-uzh-converters"),
        package_class.from_environment(environments / "core", "fractal-tasks-core"),
    ]
    laps.append(time.process_time())
    dag_class("long", workflow, packages, dataset="plate", zarr_dir="/data", params={"raw_plate": "/raw"})
    laps.append(time.process_time())

    names = ("package", "imports", "packages", "dag")
    return {name: 1000 * (b - a) for name, a, b in zip(names, laps, laps[1:], strict=False)}


def long_workflow() -> dict[str, Any]:
    """Return the demo's workflow, made longer by segmenting and measuring again and again."""
    workflow: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    convert, project, *rest = workflow["task_list"]
    workflow["task_list"] = [convert, project, *(rest[index % len(rest)] for index in range(STEPS - 2))]
    return workflow


def total(round_: dict[str, float]) -> float:
    """Return what a round took in all."""
    return sum(round_.values())


def show(what: str, times_ms: list[float], limit_ms: float) -> None:
    """Print the best and the middle time, and how they compare to the limit."""
    best, middle = times_ms[0], times_ms[len(times_ms) // 2]
    print(f"{what}: best {best:.1f} ms, middle {middle:.1f} ms, {middle / limit_ms:.2f} of {limit_ms:.0f} ms")


if __name__ == "__main__":
    main()
