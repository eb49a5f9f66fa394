"""How long DAG runs take on a real SLURM cluster, over SSH, against what they should take.

Run it as ``python -m benchmarks.slurm_run``; as root, since it starts a cluster of three nodes on this machine, with a
login node and an Airflow. A task that does nothing is timed on 24 and on 200 images, polled every 10 s and every 1 s,
from the trigger of the run to its end. ``Threshold Segmentation`` of fractal-tasks-core on 24 images (1x2x512x512
uint16) is timed warm, and with a process for each image in the same jobs (``"warm_start": false``). Every DAG runs on
one image before it is timed. ``--only noop`` or ``--only segment`` does one of the two.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "demo"))

from environments import CORE, make_environments  # noqa: E402 - the demo's scripts are no package
from layout import Layout  # noqa: E402

from benchmarks.cluster.runs import dag_run, running, write_noop_package  # noqa: E402
from fractal_airflow import TaskPackage  # noqa: E402
from tests.services.site import PYTHON, Site  # noqa: E402

NOOP_GOALS_S = {(10, 24): 12.0, (10, 200): 13.0, (1, 24): 9.0, (1, 200): 10.0}
SEGMENT_IMAGES = 24
SEGMENT_GOAL = 3.0
BATCHING = {"max_cpus_per_job": 2, "max_mem_per_job": "4G", "max_num_jobs": 3}  # a job a node
SEGMENT_ARGS: dict[str, Any] = {
    "channel": {"mode": "index", "identifier": "0"},
    "output_label_name": "nuclei",
    "overwrite": True,
}
SEGMENT_META: dict[str, Any] = {"cpus_per_task": 1, "mem": 1500}
DAG_FILE = """\
from fractal_airflow import FractalDag, TaskPackage

for dag_id, resource, name, folder, args, meta in {dags!r}:
    package = TaskPackage.from_directory(folder, python={python!r})
    task = {{"task": {{"pkg_name": package.name, "name": name}}, "args_parallel": args, "meta_parallel": meta}}
    FractalDag(
        dag_id,
        workflow={{"name": name, "task_list": [task]}},
        packages=package,
        resource=resource,
        zarr_dir="/",
        schedule=None,
    )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["noop", "segment"])
    only = parser.parse_args().only
    layout = Layout.from_environment()
    make_environments(layout.environments)
    environment = CORE.folder(layout.environments)
    core = TaskPackage.from_environment(environment, CORE.package)
    with running(resources(environment)) as site:
        write_dags(site, core)
        if only != "segment":
            for (interval_s, count), goal_s in NOOP_GOALS_S.items():
                time_noop(site, interval_s, count, goal_s)
        if only != "noop":
            time_segmentation(site, str(CORE.python(layout.environments)))


def resources(environment: Path) -> dict[str, dict[str, Any]]:
    """Return a resource for each poll interval, and one for the segmentation."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    # The jobs' user may not be allowed to run the environment's own Python: the system's finds its packages.
    lines = [f"export PYTHONPATH={packages} NUMBA_CACHE_DIR=/tmp OMP_NUM_THREADS=1"]
    own = {"default_slurm_config": {"mem": "200"}, "batching_config": BATCHING}
    segment = {"default_slurm_config": {"extra_lines": lines}, "batching_config": BATCHING}
    return {
        "every_10": {"poll_interval": 10, "jobs_runner_config": own},
        "every_1": {"poll_interval": 1, "jobs_runner_config": own},
        "segmenting": {"poll_interval": 1, "jobs_runner_config": segment},
    }


def write_dags(site: Site, core: TaskPackage) -> None:
    """Write the DAG file of all cases."""
    noop = str(write_noop_package(site))
    segment = ("segmenting", "Threshold Segmentation", str(core.directory), SEGMENT_ARGS)
    dags = [
        ("noop_10", "every_10", "Noop", noop, {}, {}),
        ("noop_1", "every_1", "Noop", noop, {}, {}),
        ("segment_warm", *segment, SEGMENT_META),
        ("segment_cold", *segment, {**SEGMENT_META, "warm_start": False}),
    ]
    site.airflow.home.write_dag("benchmark", DAG_FILE.format(dags=dags, python=PYTHON))


def time_noop(site: Site, interval_s: int, count: int, goal_s: float) -> None:
    """Time a task that does nothing."""
    urls = [f"/none/{number}.zarr" for number in range(count)]
    dag_run(site, f"noop_{interval_s}", urls[:1])
    seconds = dag_run(site, f"noop_{interval_s}", urls)
    print(
        f"no-op on {count} images, poll every {interval_s} s: {seconds:.1f} s from trigger to done "
        f"(goal: under {goal_s:.0f} s, ratio {seconds / goal_s:.2f})",
        flush=True,
    )


def time_segmentation(site: Site, python: str) -> None:
    """Time Threshold Segmentation, warm and with a process for each image."""
    folder = site.cluster.shared / "images"
    folder.mkdir()
    program = Path(__file__).parent / "programs" / "make_images.py"
    subprocess.run([python, program, folder, str(SEGMENT_IMAGES)], check=True)
    subprocess.run(["chown", "-R", site.cluster.user.pw_name, folder], check=True)
    urls = sorted(str(path) for path in folder.iterdir())
    seconds = {}
    for dag_id in ("segment_cold", "segment_warm"):
        dag_run(site, dag_id, urls[:1])
        seconds[dag_id] = dag_run(site, dag_id, urls)
    cold_s, warm_s = seconds["segment_cold"], seconds["segment_warm"]
    print(
        f"Threshold Segmentation on {SEGMENT_IMAGES} images: a process for each image {cold_s:.1f} s, warm "
        f"{warm_s:.1f} s: {cold_s / warm_s:.1f} times as fast (goal: {SEGMENT_GOAL})",
        flush=True,
    )


if __name__ == "__main__":
    main()
