"""What a large step costs on a cluster: 20 000 units of 2 s in 500 jobs on 400 slots, on a simulated SLURM.

Run it as ``python -m benchmarks.slurm_scale``. Everything but SLURM is real: jobs are submitted one by one through the
resource, over the transport of a submit host, by the program that also runs on clusters; `sbatch` and `squeue` are
scripts. Jobs are watched as a triggerer watches them, and their results collected. What it prints: the cost of a
submission, of a poll and of collecting, and the time of all of it against the ideal one (100 s). Then the cost of a
submission and of a poll with 5000 jobs of 200 000 units in the queue, where half of the results are there, against
that with 500.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cluster.simulated import SimulatedJob, SimulatedSlurm
from fractal_airflow.execution.resource import BatchCall
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.cluster import AsyncCluster
from fractal_airflow.execution.slurm.messages import JobStatus, PollItem, Submitted
from fractal_airflow.execution.slurm.resource import SlurmResource
from fractal_airflow.execution.slurm.transport import make_async_transport
from fractal_airflow.execution.slurm.watch import JobWatch
from fractal_airflow.triggers.watcher import ClusterWatcher, Link, cluster_watcher

UNITS, JOBS, SLOTS, UNIT_S = 20_000, 500, 400, 2.0
LARGE_UNITS, LARGE_JOBS = 200_000, 5000
AT_A_TIME = 4
SUBMITTERS = 2  # Airflow workers
POLL_INTERVAL_S = 10.0
SAMPLES = 5

log = logging.getLogger(__name__)


@dataclass
class Costs:
    """Seconds of calls, by what they were."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, since: float) -> None:
        self.seconds.setdefault(what, []).append(time.perf_counter() - since)

    def say(self, what: str) -> str:
        """Return a line about one kind of call."""
        taken = self.seconds[what]
        return f"{len(taken)} times, median {statistics.median(taken):.3f} s, longest {max(taken):.3f} s"


class TimedCluster(AsyncCluster):
    """A cluster whose polls are timed."""

    costs: Costs

    async def poll(self, items: Sequence[PollItem]) -> dict[str, JobStatus]:
        """Poll, and take the time of it."""
        started = time.perf_counter()
        statuses = await super().poll(items)
        self.costs.add("poll", started)
        return statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--growth-only", action="store_true", help="leave out the run of some minutes")
    options = parser.parse_args()
    if not options.growth_only:
        whole_step()
    growth()


def whole_step() -> None:
    """Submit, watch and collect a whole step."""
    costs = Costs()
    with tempfile.TemporaryDirectory(prefix="fractal-benchmark-") as name:
        folder = Path(name)
        slurm = make_slurm(folder)
        config = make_config(folder)
        with slurm.on_path(), slurm.running():
            started, cpu = time.perf_counter(), cpu_seconds()
            with ThreadPoolExecutor(SUBMITTERS) as pool:
                calls = [batch_call(folder, number, UNITS // JOBS) for number in range(JOBS)]
                submitting = [pool.submit(submit, config, call, costs) for call in calls]
                asyncio.run(watch_all(config, submitting, costs))
            seconds, used = time.perf_counter() - started, cpu_seconds() - cpu
        ideal = UNITS * UNIT_S / SLOTS
        print(f"{UNITS} units of {UNIT_S:.0f} s in {JOBS} jobs on {SLOTS} slots:")
        print(f"  all of it: {seconds:.1f} s, {seconds / ideal:.2f} times the ideal {ideal:.0f} s")
        print(
            f"  CPU time of submitting, watching and collecting: {used:.1f} s, {used / UNITS * 1e3:.2f} ms a unit"
        )
        for what in ("submission", "poll", "collecting"):
            print(f"  {what}: {costs.say(what)}")
        print(
            f"  squeue, for all of that: {slurm.squeues} times; jobs submitted: {slurm.submitted}", flush=True
        )


def growth() -> None:
    """Compare the cost of a call with few and with many jobs in the queue."""
    small = sampled(UNITS, JOBS)
    large = sampled(LARGE_UNITS, LARGE_JOBS)
    factor = LARGE_JOBS / JOBS
    print(
        f"with {LARGE_JOBS} jobs of {LARGE_UNITS} units, against {JOBS} jobs of {UNITS} units ({factor:.0f} times):"
    )
    for what in ("submission", "first poll", "poll"):
        before, after = (statistics.median(costs.seconds[what]) for costs in (small, large))
        print(f"  {what}: {after:.3f} s against {before:.3f} s: {after / before:.1f} times", flush=True)


def sampled(units: int, jobs: int) -> Costs:
    """Take the times of some calls with so many jobs in the queue, half of whose results are there."""
    costs = Costs()
    with tempfile.TemporaryDirectory(prefix="fractal-benchmark-") as name:
        folder = Path(name)
        slurm = make_slurm(folder)
        config = make_config(folder)
        filling = [half_done_job(folder, number, units // jobs) for number in range(1, jobs + 1)]
        slurm.fill(filling)
        with slurm.on_path():
            for number in range(SAMPLES):
                submit(config, batch_call(folder, jobs + number, units // jobs), costs)
            asyncio.run(sample_polls(config, filling, costs))
    return costs


async def sample_polls(config: ResourceConfig, jobs: list[SimulatedJob], costs: Costs) -> None:
    """Poll all jobs from the beginning, as after a restart, then as in the middle of waiting."""
    cluster = AsyncCluster(make_async_transport(config), str(config.work_dir), config.python)
    for _ in range(SAMPLES):
        started = time.perf_counter()
        statuses = await cluster.poll([PollItem(str(job.id), str(job.folder)) for job in jobs])
        costs.add("first poll", started)
        started = time.perf_counter()
        items = [PollItem(str(job.id), str(job.folder), statuses[str(job.id)].offset) for job in jobs]
        await cluster.poll(items)
        costs.add("poll", started)
    await cluster.close()


def half_done_job(folder: Path, number: int, count: int) -> SimulatedJob:
    """Write the folder of a job that has run half of its units."""
    attempt = folder / "runs" / "before" / str(number) / "1"
    attempt.mkdir(parents=True)
    (attempt / "batch.json").write_text(json.dumps({"count": count, "parallel": AT_A_TIME}))
    results = (
        {"index": index, "status": "done", "host": "n", "seconds": UNIT_S} for index in range(count // 2)
    )
    (attempt / "results.jsonl").write_text("".join(json.dumps(result) + "\n" for result in results))
    return SimulatedJob(number, f"before-{number}", attempt, count, AT_A_TIME)


def make_slurm(folder: Path) -> SimulatedSlurm:
    place = folder / "slurm"
    place.mkdir()
    return SimulatedSlurm(place, slots=SLOTS, unit_s=UNIT_S)


def make_config(folder: Path) -> ResourceConfig:
    batching = {"max_cpus_per_job": AT_A_TIME, "max_num_jobs": LARGE_JOBS}
    return ResourceConfig.model_validate(
        {
            "type": "slurm",
            "work_dir": str(folder / "runs"),
            "poll_interval": POLL_INTERVAL_S,
            "jobs_runner_config": {"batching_config": batching},
        }
    )


def batch_call(folder: Path, number: int, count: int) -> BatchCall:
    """Return a batch of units; nothing runs them."""
    return BatchCall(
        units=[{"zarr_url": f"/none/{number}/{index}.zarr"} for index in range(count)],
        command=("python3", "/none/noop.py"),
        folder=str(folder / "runs" / "benchmark" / "run" / "0_noop" / str(number)),
        generation="1",
        meta={},
        label=str(number),
    )


def submit(config: ResourceConfig, call: BatchCall, costs: Costs) -> Submitted:
    """Submit a batch as an Airflow worker does: with a resource of its own."""
    started = time.perf_counter()
    submitted = SlurmResource(config).submit(call, log=log)
    costs.add("submission", started)
    return submitted


async def watch_all(config: ResourceConfig, submitting: Sequence[Future[Submitted]], costs: Costs) -> None:
    """Watch all jobs from their submission on, as the triggers of a triggerer do."""

    async def connect() -> Link:
        cluster = TimedCluster(make_async_transport(config), str(config.work_dir), config.python)
        cluster.costs = costs
        return Link(cluster, config.poll_interval)

    async with cluster_watcher("simulated", connect) as watcher:
        await asyncio.gather(
            *(watch(watcher, asyncio.wrap_future(each), config, costs) for each in submitting)
        )


async def watch(
    watcher: ClusterWatcher, submitting: asyncio.Future[Submitted], config: ResourceConfig, costs: Costs
) -> None:
    """Wait for a job, and collect its results, as its trigger does."""
    submitted = await submitting
    assert submitted.job is not None
    job_id = submitted.job.id
    job = JobWatch.of(submitted, config.results_wait, time.monotonic())
    with watcher.watch(job_id, submitted.folder, submitted.offset) as updates:
        while job.verdict is None:
            update = await updates.get()
            if isinstance(update, Exception):
                raise update
            job.take(update, time.monotonic())

    async def collect(cluster: AsyncCluster) -> int:
        started = time.perf_counter()
        collected = await cluster.collect(submitted.folder, submitted.count, job_id, most_bytes=1 << 24)
        costs.add("collecting", started)
        return len(collected.results)

    if await watcher.call(collect) != submitted.count:
        raise RuntimeError(f"{submitted.folder} has not all of its results")


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for, the simulated SLURM's included."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
