"""How long a night takes that has nothing to do, or one per cent of it: ``images="pending"`` under a real scheduler.

A dataset of so many images has been through six steps (its history is written straight into the store). Then three
runs, each from its trigger to its end: one with nothing to do; one with 1 % new images; and, to compare, one of as many
images in a dataset of their own. The task does nothing. Run it as ``python -m benchmarks.nightly``; ``--images`` says
on how many images.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fractal_airflow import TaskPackage
from fractal_airflow.dataset import DatasetStore, ImageStatus, StepRun
from fractal_airflow.fractal import Image, ResolvedTask, load_workflow, resolve_workflow
from fractal_airflow.operators.inputs import fingerprint
from tests.services.airflow import AirflowHome, make_home
from tests.services.scheduler import RunningAirflow, running_airflow, scheduler_settings

STEPS = 6
GOALS_S = {20_000: 15.0, 200_000: 60.0}
DAG_ID = "nightly"
NOOP = Path(__file__).parent / "programs" / "noop_task.py"
TIMEOUT_S = 1800.0

DAG_FILE = """\
from fractal_airflow import FractalDag, TaskPackage

FractalDag(
    {dag_id!r},
    workflow={workflow!r},
    packages=TaskPackage.from_directory({package!r}, python={python!r}),
    dataset="large",
    schedule=None,
)
"""


def main() -> None:
    """Measure on each number of images, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=list(GOALS_S))
    for count in parser.parse_args().images:
        with tempfile.TemporaryDirectory(prefix="fractal-nightly-") as folder:
            measure(Path(folder), count)


def measure(folder: Path, count: int) -> None:
    """Run the three nights of a dataset."""
    package = make_package(folder / "noop")
    workflow = {
        "name": "Night",
        "task_list": [
            {"alias": f"Step {number}", "task": {"pkg_name": "noop", "version": None, "name": "Noop"}}
            for number in range(STEPS)
        ],
    }
    # As an Airflow that nobody has set up for speed.
    settings = {**scheduler_settings(), "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1"}
    home = make_home(folder / "home", None, **settings)
    steps = resolve_workflow(
        load_workflow(workflow), [TaskPackage.from_directory(package, python=sys.executable)]
    )
    seconds = fill(home, steps, count)
    print(f"{count} images, {STEPS} steps (their history was written in {seconds:.0f} s)", flush=True)
    text = DAG_FILE.format(dag_id=DAG_ID, workflow=workflow, package=str(package), python=sys.executable)
    home.write_dag(DAG_ID, text)
    with running_airflow(home) as airflow:
        new = max(1, count // 100)
        add(home.store, "warming_up", home, range(1))
        timed_run(airflow, {"dataset": "warming_up", "images": "all"})
        nothing = timed_run(airflow, {"images": "pending"})
        goal = f" (goal: {GOALS_S[count]:.0f} s)" if count in GOALS_S else ""
        print(f"  nothing to do: {nothing:.1f} s{goal}", flush=True)
        add(home.store, "alone", home, range(new))
        alone = timed_run(airflow, {"dataset": "alone", "images": "all"})
        print(f"  {new} images in a dataset of their own: {alone:.1f} s", flush=True)
        add(home.store, "large", home, range(count, count + new))
        both = timed_run(airflow, {"images": "pending"})
        print(
            f"  {new} new images in the large one: {both:.1f} s, {both / (alone + nothing):.2f} times the sum of both",
            flush=True,
        )


def make_package(folder: Path) -> Path:
    """Make a package of one task, which does nothing."""
    folder.mkdir()
    task = {"name": "Noop", "type": "parallel", "executable_parallel": NOOP.name}
    manifest = {"manifest_version": "2", "name": "noop", "task_list": [task]}
    (folder / "__FRACTAL_MANIFEST__.json").write_text(json.dumps(manifest))
    (folder / NOOP.name).write_text(NOOP.read_text())
    return folder


def add(store: DatasetStore, name: str, home: AirflowHome, numbers: Sequence[int]) -> None:
    """Add images to a dataset, which is made if it is new."""
    store.get_or_create(name, str(home.data))
    known = store.export(name)
    images = [
        {"zarr_url": f"{home.data}/{name}/{number}", "attributes": {"well": f"W{number // 4}"}, "types": {}}
        for number in numbers
    ]
    store.import_dataset({**known, "images": known["images"] + images}, replace=True)


def fill(home: AirflowHome, steps: Sequence[ResolvedTask], count: int) -> float:
    """Write a dataset that has been through all steps; return how long that took."""
    began = time.perf_counter()
    add(home.store, "large", home, range(count))
    for step in steps:
        digest = fingerprint(step, {half: {} for half in step.task.halves})
        home.store.merge(
            "large",
            StepRun(DAG_ID, "before", step.index, step.task_key),
            lambda images, removed: [Image(*each) for each in map(_fields, images)],
            [
                ImageStatus(f"{home.data}/large/{number}", "done", fingerprint=digest, seconds=0.01)
                for number in range(count)
            ],
        )
    return time.perf_counter() - began


def _fields(image: Image) -> tuple[Any, ...]:
    return image.zarr_url, image.origin, image.attributes, image.types


def timed_run(airflow: RunningAirflow, conf: dict[str, Any]) -> float:
    """Run the DAG; return the seconds from its trigger to its end."""
    began = time.perf_counter()
    run_id = airflow.trigger(DAG_ID, conf)
    state = airflow.wait_for_end(DAG_ID, run_id, TIMEOUT_S)
    seconds = time.perf_counter() - began
    if state != "success":
        raise SystemExit(f"run {run_id} ended as {state}\n{airflow.logs()}")
    return seconds


if __name__ == "__main__":
    main()
