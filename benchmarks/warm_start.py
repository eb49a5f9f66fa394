"""How much faster units are in a warm runner than as a process each, two at a time.

The same commands run through ``xargs -P 2`` and through two batches on the local resource. Run it as
``python -m benchmarks.warm_start``; ``--images`` and ``--units`` choose how many.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.resource import JobsRunnerConfig
from fractal_airflow.execution.run_folder import batch_folder, open_attempt
from fractal_airflow.execution.units import Outcome, Work
from tests.services.task_environments import core_tasks

PROGRAMS = Path(__file__).parent / "programs"
BATCHES = 2


def main() -> None:
    """Measure a real task and one that does nothing, and print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[24, 240], help="of Threshold Segmentation")
    parser.add_argument("--units", type=int, nargs="*", default=[1000], help="of a task that does nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in options.images:
            compare("Threshold Segmentation", segmentation(folder, count), folder)
        for count in options.units:
            command = (sys.executable, str(PROGRAMS / "noop_task.py"))
            units = [{"zarr_url": f"/{index}"} for index in range(count)]
            compare("a task that does nothing", Work(command, units), folder)


def segmentation(folder: Path, count: int) -> Work:
    """Return the work of segmenting new images."""
    environment = core_tasks()
    images = folder / f"images-{count}"
    images.mkdir()
    program = str(PROGRAMS / "make_images.py")
    subprocess.run([environment.python, program, str(images), str(count)], check=True)
    channel = {"mode": "label", "identifier": "DAPI"}
    units = [{"zarr_url": str(images / f"{index}.zarr"), "channel": channel} for index in range(count)]
    return Work(environment.command("threshold_segmentation.py"), units)


def compare(name: str, work: Work, folder: Path) -> None:
    count = len(work.units)
    cold_s = one_process_each(work, folder / f"{name}-{count}-cold")
    warm_s, outcomes = two_batches(work, folder / f"{name}-{count}-warm")
    assert all(outcome.status == "done" for outcome in outcomes), "a unit failed"
    cpu_s = statistics.median(outcome.cpu_seconds or 0 for outcome in outcomes)
    print(
        f"{name}, {count} units, {BATCHES} at a time: xargs {cold_s:.1f} s ({cold_s / count:.4f} s each), "
        f"runner {warm_s:.1f} s ({warm_s / count:.4f} s each, {cpu_s:.4f} s of CPU): "
        f"{cold_s / warm_s:.1f} times faster",
        flush=True,
    )


def one_process_each(work: Work, folder: Path) -> float:
    """Run the commands through xargs; return the seconds it takes."""
    folder.mkdir()
    lines = []
    for index, arguments in enumerate(work.units):
        args, out = folder / f"{index}-args.json", folder / f"{index}-out.json"
        args.write_text(json.dumps(arguments))
        lines.append(shlex.join([*work.command, "--args-json", str(args), "--out-json", str(out)]))
    began = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        command = ["xargs", "-P", str(BATCHES), "-L", "1", "env"]
        subprocess.run(command, input="\n".join(lines), text=True, check=True, stdout=log, stderr=log)
    return time.perf_counter() - began


def two_batches(work: Work, folder: Path) -> tuple[float, list[Outcome]]:
    """Run the units in batches that run at once; return the seconds it takes, and the outcomes."""
    outcomes: list[Outcome] = []

    def run(number: int) -> None:
        part = Work(work.command, work.units[number::BATCHES])
        attempt = open_attempt(batch_folder(folder / "run", number, part), part, "benchmark")
        resource = LocalResource(folder, JobsRunnerConfig(parallel_tasks_per_job=BATCHES))
        outcomes.extend(resource.run_attempt(part, attempt, log=logging.getLogger(__name__)))

    threads: list[Any] = [threading.Thread(target=run, args=(number,)) for number in range(BATCHES)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, outcomes


if __name__ == "__main__":
    main()
