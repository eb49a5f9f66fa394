"""What waiting costs: 1000 units in 200 jobs that a triggerer waits for, on a real SLURM cluster over SSH.

Run it as ``python -m benchmarks.slurm_poll``, as root (it starts a cluster, its login node and an Airflow; submitting
the jobs takes some minutes). For a minute it counts the SSH connections to the login node and the calls of `squeue`
there, and takes the triggerer's CPU time and memory: that of its two processes (one talks to the database, the triggers
are in the other), where pages that they share are counted once. The first one builds Airflow's API in itself, 95 MB, as
soon as any trigger reads a connection. ``--jobs 20`` tries it with fewer.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.cluster.runs import TIMEOUT_S, running, write_noop_package
from fractal_airflow.fractal.images import Image
from tests.services.daemons import descendants
from tests.services.requirements import program
from tests.services.site import PYTHON, Site

JOBS, UNITS_A_JOB = 200, 5
POLL_INTERVAL_S = 10.0
SETTLING_S, WINDOW_S = 45.0, 60.0
GOAL_MEMORY_MB, GOAL_CPU = 250.0, 0.05
DAG_ID = "waiting"
TICKS = os.sysconf("SC_CLK_TCK")

DAG_FILE = """\
from fractal_airflow import FractalDag, TaskPackage

package = TaskPackage.from_directory({folder!r}, python={python!r})
FractalDag(
    {dag_id!r},
    workflow={{"name": "Wait", "task_list": [
        {{"task": {{"pkg_name": package.name, "name": "Noop"}}, "meta_parallel": {{"extra_lines": ["sleep 3600"]}}}}
    ]}},
    packages=package,
    resource="waiting",
    images_per_batch={units_a_job},
    zarr_dir="/",
    schedule=None,
)
"""
_SQUEUE = """\
#!/bin/sh
printf '.\\n' >>{counter}
exec {squeue} "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS)
    jobs = parser.parse_args().jobs
    batching = {"max_cpus_per_job": 1, "max_num_jobs": jobs}
    config = {"default_slurm_config": {"mem": "100"}, "batching_config": batching}
    resource: dict[str, Any] = {"poll_interval": POLL_INTERVAL_S, "jobs_runner_config": config}
    with running({"waiting": resource}) as site:
        counter = count_squeues(site)
        time.sleep(SETTLING_S)
        idle_mb = memory_mb(site)
        started = time.monotonic()
        submit(site, jobs)
        print(
            f"{jobs} jobs of {jobs * UNITS_A_JOB} units are waited for after {time.monotonic() - started:.0f} s"
        )
        time.sleep(SETTLING_S)
        measure(site, counter, idle_mb)
        site.cluster.cancel_all()


def count_squeues(site: Site) -> Path:
    """Have every call of `squeue` on the login node leave a line in a file; return that file."""
    counter = site.cluster.shared / "squeues"
    counter.touch()
    counter.chmod(0o666)
    wrapper = site.login_node.folder / "bin" / "squeue"
    wrapper.write_text(_SQUEUE.format(counter=counter, squeue=program("squeue")))
    wrapper.chmod(0o755)
    return counter


def submit(site: Site, jobs: int) -> None:
    """Start a run, and wait until all of its jobs are waited for."""
    folder = str(write_noop_package(site))
    home = site.airflow.home
    text = DAG_FILE.format(folder=folder, python=PYTHON, dag_id=DAG_ID, units_a_job=UNITS_A_JOB)
    home.write_dag(DAG_ID, text)
    images = [Image(f"/none/{number}.zarr") for number in range(jobs * UNITS_A_JOB)]
    home.store.create(DAG_ID, "/", images)
    run_id = site.airflow.trigger(DAG_ID, {"dataset": DAG_ID})
    path = f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances?state=deferred&limit=1"
    deadline = time.monotonic() + TIMEOUT_S
    while (deferred := site.airflow.call("GET", path)["total_entries"]) < jobs:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {deferred} of {jobs} task instances wait\n{site.airflow.logs()}")
        time.sleep(5)


def measure(site: Site, counter: Path, idle_mb: list[float]) -> None:
    """Look at the triggerer and the login node for a while, and print what was seen."""
    triggerer = site.airflow.components["triggerer"].pid
    squeues, cpu_s, started = counter.stat().st_size, cpu_seconds(triggerer), time.monotonic()
    connections = []
    while time.monotonic() - started < WINDOW_S:
        connections.append(site.login_node.connections())
        time.sleep(1)
    seconds = time.monotonic() - started
    squeues = (counter.stat().st_size - squeues) // 2
    cpu = (cpu_seconds(triggerer) - cpu_s) / seconds
    polls = seconds / POLL_INTERVAL_S
    print(f"SSH connections: {min(connections)} to {max(connections)} (goal: 1)")
    print(f"squeue: {squeues} in {seconds:.0f} s, {squeues / polls:.2f} for each poll interval (goal: 1)")
    now_mb = memory_mb(site)
    print(
        f"memory of the triggerer: {sum(now_mb):.0f} MB ({parts(now_mb)}), before the first job "
        f"{sum(idle_mb):.0f} MB ({parts(idle_mb)}) (goal: under {GOAL_MEMORY_MB:.0f} MB)"
    )
    print(f"CPU of the triggerer: {cpu:.1%} of a core (goal: under {GOAL_CPU:.0%})", flush=True)


def memory_mb(site: Site) -> list[float]:
    """Return the memory of each process of the triggerer."""
    return [proportional_mb(pid) for pid in family(site.airflow.components["triggerer"].pid)]


def parts(sizes_mb: list[float]) -> str:
    """Return sizes as a sum."""
    return " + ".join(f"{size_mb:.0f}" for size_mb in sizes_mb)


def family(pid: int) -> list[int]:
    """Return a process with all that it has started."""
    return [pid, *descendants(pid)]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of those it has started."""
    ticks = 0
    for member in family(pid):
        fields = Path("/proc", str(member), "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def proportional_mb(pid: int) -> float:
    """Return the memory of a process, with its share of the pages that others have, too."""
    text = Path("/proc", str(pid), "smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


if __name__ == "__main__":
    main()
