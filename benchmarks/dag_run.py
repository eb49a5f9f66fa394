"""How long a whole DAG run takes under a real scheduler, against the same commands through ``xargs -P 2``.

Run it as ``python -m benchmarks.dag_run``. ``--segment 24 240`` says on how many images Threshold Segmentation of
fractal-tasks-core is timed (images of 1x2x512x512 uint16), ``--noop 1000 5000`` on how many a task that does nothing.
The time of a DAG run is from its trigger to its end, so it has all that Airflow adds. Ratios are of one run of this
program: the plain commands first, then the DAG. Both use compiled modules, and each runs on one image before it is
timed; with ``--uncompiled`` neither does, as in an environment that uv made and nobody may write to.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "demo"))

from airflow_api import AirflowApi  # noqa: E402 - the demo's scripts are no package
from airflow_home import HOST, AirflowHome, free_port  # noqa: E402
from airflow_processes import Components, migrate_database, running_components  # noqa: E402
from environments import CORE, make_environments  # noqa: E402
from layout import Layout  # noqa: E402

from fractal_airflow import TaskPackage  # noqa: E402
from fractal_airflow.dataset import DatasetStore  # noqa: E402
from fractal_airflow.fractal.images import Image  # noqa: E402

SEGMENT_GOALS = {24: 4.0, 240: 9.0}
NOOP_GOALS = {1000: 1.0, 5000: 2.0}
AT_ONCE = 2
POLL_S = 1.0  # seldom: the API server has the same two cores
TIMEOUT_S = 1800

SEGMENT_ARGS: dict[str, Any] = {
    "channel": {"mode": "index", "identifier": "0"},
    "output_label_name": "nuclei",
}

DAG_FILE = """\
from fractal_airflow import FractalDag, TaskPackage

for name, manifest, python, args in {dags!r}:
    package = TaskPackage.from_directory(manifest, python=python)
    task = {{"task": {{"pkg_name": package.name, "name": name}}, "args_parallel": args}}
    FractalDag(
        "benchmark_" + name.split()[0].lower(),
        workflow={{"name": name, "task_list": [task]}},
        packages=package,
        schedule=None,
    )
"""

NOOP_MANIFEST = {
    "manifest_version": "2",
    "task_list": [{"name": "Noop", "type": "parallel", "executable_parallel": "noop.py"}],
}
NOOP_TASK = """\
import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--args-json")
parser.add_argument("--out-json")
args = parser.parse_args()
with open(args.args_json) as file:
    json.load(file)
with open(args.out_json, "w") as file:
    json.dump(None, file)
"""

MAKE_IMAGES = """\
import sys
import numpy
from ngio import create_ome_zarr_from_array
from skimage.filters import gaussian

folder, count = sys.argv[1], int(sys.argv[2])
random = numpy.random.default_rng(0)
for number in range(count):
    seeds = random.random((1, 2, 512, 512)) > 0.9995
    array = (gaussian(seeds.astype(float), (0, 0, 4, 4)) * 4e6).astype("uint16")
    create_ome_zarr_from_array(f"{folder}/{number}.zarr", array=array, pixelsize=0.5, levels=2, axes_names="czyx")
"""


@dataclass(frozen=True)
class Case:
    """A parallel task on so many images."""

    dag_id: str
    command: list[str]
    args: dict[str, Any]
    urls: list[str]
    goal: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--segment", type=int, nargs="*", default=[24, 240])
    parser.add_argument("--noop", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--uncompiled", action="store_true")
    options = parser.parse_args()
    layout = Layout.from_environment()
    make_environments(layout.environments)
    python = str(CORE.python(layout.environments))
    core = TaskPackage.from_environment(CORE.folder(layout.environments), CORE.package)
    with tempfile.TemporaryDirectory(prefix="fractal-benchmark-") as name:
        folder = Path(name)
        choose_compiled(not options.uncompiled, folder)
        noop = make_noop_package(folder / "noop")
        dags = [
            ("Threshold Segmentation", str(core.directory), core.python, SEGMENT_ARGS),
            ("Noop", str(noop), sys.executable, {}),
        ]
        cases = segment_cases(folder, core, python, options.segment) + noop_cases(folder, noop, options.noop)
        with running_airflow(folder, DAG_FILE.format(dags=dags)) as (api, components, store):
            for case in cases:
                plain_run(folder, case, count=1)
                dag_run(api, components, store, folder, case, count=1)
                report(case, plain_run(folder, case), dag_run(api, components, store, folder, case))


def choose_compiled(compiled: bool, folder: Path) -> None:
    """Let all processes that are started from here find and leave compiled modules, or none at all."""
    if compiled:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    else:
        os.environ.update(PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(folder / "no_cache"))


def segment_cases(folder: Path, core: TaskPackage, python: str, counts: list[int]) -> list[Case]:
    """Make the images of each size, and return the cases of Threshold Segmentation."""
    command = core.command(core.manifest.task("Threshold Segmentation"), "parallel")
    cases = []
    for count in counts:
        images = folder / f"images_{count}"
        images.mkdir()
        subprocess.run([python, "-c", MAKE_IMAGES, images, str(count)], check=True)
        urls = [str(images / f"{number}.zarr") for number in range(count)]
        cases.append(Case("benchmark_threshold", command, SEGMENT_ARGS, urls, SEGMENT_GOALS.get(count)))
    return cases


def noop_cases(folder: Path, noop: Path, counts: list[int]) -> list[Case]:
    """Return the cases of the task that does nothing."""
    command = [sys.executable, str(noop / "noop.py")]
    return [
        Case(
            "benchmark_noop",
            command,
            {},
            [str(folder / f"none_{n}") for n in range(count)],
            NOOP_GOALS.get(count),
        )
        for count in counts
    ]


def make_noop_package(folder: Path) -> Path:
    """Write a task package whose one task does nothing."""
    folder.mkdir()
    (folder / "__FRACTAL_MANIFEST__.json").write_text(json.dumps(NOOP_MANIFEST))
    (folder / "noop.py").write_text(NOOP_TASK)
    return folder


def plain_run(folder: Path, case: Case, count: int | None = None) -> float:
    """Run the case's commands, or the first so many, through xargs; return the seconds that it took."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lines = []
        for number, url in enumerate(case.urls[:count]):
            args_file = Path(name, f"{number}-args.json")
            args_file.write_text(json.dumps({**case.args, "zarr_url": url}))
            lines.append(f"--args-json {args_file} --out-json {Path(name, f'{number}-out.json')}")
        started = time.perf_counter()
        with Path(name, "log.txt").open("w") as log:
            subprocess.run(
                ["xargs", "-P", str(AT_ONCE), "-L", "1", *case.command],
                input="\n".join(lines),
                text=True,
                stdout=log,
                stderr=log,
                check=True,
            )
        return time.perf_counter() - started


@contextmanager
def running_airflow(folder: Path, dag_file: str) -> Iterator[tuple[AirflowApi, Components, DatasetStore]]:
    """Run a scheduler with LocalExecutor, the DAG processor and the API server, until the block ends."""
    home = AirflowHome(folder / "airflow")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "benchmark.py").write_text(dag_file)
    port = free_port()
    home.write_config(dags, port)
    migrate_database(home)
    with running_components(home, ("api-server", "dag-processor", "scheduler")) as components:
        api = AirflowApi(f"http://{HOST}:{port}")
        deadline = time.monotonic() + TIMEOUT_S
        while not (api.is_up() and api.last_parsed("benchmark_noop")):
            components.check()
            if time.monotonic() > deadline:
                raise TimeoutError("Airflow did not come up")
            time.sleep(POLL_S)
        yield api, components, DatasetStore(home.dataset_store)


def dag_run(
    api: AirflowApi,
    components: Components,
    store: DatasetStore,
    folder: Path,
    case: Case,
    count: int | None = None,
) -> float:
    """Run the case's DAG on a new dataset of its images, or the first so many; return the seconds to its end."""
    urls = case.urls[:count]
    name = f"{case.dag_id}_{len(case.urls)}_{len(urls)}"
    store.create(name, str(folder), [Image(url) for url in urls])
    started = datetime.now(UTC)
    api.trigger(case.dag_id, name, {"dataset": name})
    while (run := api.call("GET", f"/api/v2/dags/{case.dag_id}/dagRuns/{name}"))["state"] in (
        "queued",
        "running",
    ):
        components.check()
        if (datetime.now(UTC) - started).total_seconds() > TIMEOUT_S:
            raise TimeoutError(f"{name} did not end")
        time.sleep(POLL_S)
    if run["state"] != "success":
        raise RuntimeError(f"{name} ended as {run['state']}; its logs are below {folder}")
    return (datetime.fromisoformat(run["end_date"]) - started).total_seconds()


def report(case: Case, plain_s: float, dag_s: float) -> None:
    """Print one line of figures."""
    count = len(case.urls)
    goal = f" (goal: {case.goal})" if case.goal else ""
    print(
        f"{case.dag_id} on {count} images: xargs -P {AT_ONCE} {plain_s:.1f} s, whole DAG run {dag_s:.1f} s: "
        f"{plain_s / dag_s:.1f} times as fast{goal}",
        flush=True,
    )


if __name__ == "__main__":
    main()
