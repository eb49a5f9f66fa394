"""How long a merge through the dataset store takes: read, apply the rules, commit images and statuses.

Each measurement is a process of its own, so that its peak memory is its own. Run it as
``python -m benchmarks.dataset_store``; ``--sizes`` and ``--databases`` make it shorter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fractal_airflow.dataset import DatasetStore, ImageStatus, StepRun
from fractal_airflow.fractal.images import Image
from fractal_airflow.fractal.merging import UnitResult, merge_step
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput
from tests.services.postgres import running_postgres

ZARR_DIR = "/data/screen"
STEP = StepRun("nuclei", "manual__2026-01-01T00:00:00+00:00", 2, "Threshold Segmentation")
LIMIT_S = {20_000: 3.0}


@dataclass(frozen=True)
class Measured:
    """One merge of ``count`` updates into ``count`` images, and the reading of the list after it."""

    count: int
    merge_s: float
    read_s: float
    peak_gib: float

    @property
    def us_per_image(self) -> float:
        """Microseconds of the merge for each image."""
        return self.merge_s / self.count * 1e6


def main() -> None:
    """Measure every size on every database and print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for database in options.databases:
        measured = []
        for count in options.sizes:
            with empty_store(database) as url, multiprocessing.get_context("spawn").Pool(1) as pool:
                measured.append(pool.apply(measure, (url, count)))
            print(figures(database, measured[-1]), flush=True)
        print(ratios(database, measured), flush=True)


@contextmanager
def empty_store(database: str) -> Iterator[str]:
    """The address of a store in a temporary folder, with the safety settings of a real one."""
    with ExitStack() as stack:
        if database == "postgresql":
            server = stack.enter_context(running_postgres(settings=("listen_addresses=127.0.0.1",)))
            yield server.create_database()
        else:
            yield f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/store.db"


def measure(url: str, count: int) -> Measured:
    """Make a dataset, merge one update an image into it, and read it back."""
    store = DatasetStore(url)
    urls = [f"{ZARR_DIR}/plate_{i // 1000}.zarr/{'ABCDEFGH'[i % 8]}/{i % 12 + 1}/{i}" for i in range(count)]
    store.create("screen", ZARR_DIR, (Image(one, None, attributes(i), {}) for i, one in enumerate(urls)))
    statuses = [ImageStatus(one, "done", map_index=0, seconds=0.2) for one in urls]
    results = [
        UnitResult(one, TaskOutput([ImageUpdate(one, None, {"channel": "DAPI"}, {"segmented": True})], []))
        for one in urls
    ]

    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return merge_step(
            images, results, zarr_dir=ZARR_DIR, input_urls=urls, output_types={}, already_removed=removed
        )

    began = time.perf_counter()
    merged = store.merge("screen", STEP, change, statuses)
    ended = time.perf_counter()
    images = store.images("screen")
    read = time.perf_counter()
    assert len(merged.updated) == len(images) == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return Measured(count, ended - began, read - ended, peak)


def attributes(index: int) -> dict[str, str | int | float | bool]:
    """What a converter says of an image."""
    well = f"{'ABCDEFGH'[index % 8]}{index % 12 + 1:02}"
    return {"plate": f"plate_{index // 1000}.zarr", "well": well, "acquisition": 0}


def figures(database: str, one: Measured) -> str:
    """A line for one measurement."""
    limit = LIMIT_S.get(one.count)
    share = f", {one.merge_s / limit:.2f} of the {limit:g} s allowed" if limit else ""
    return (
        f"store on {database}: {one.count:>9,} updates merged in {one.merge_s:.2f} s{share} "
        f"({one.us_per_image:.1f} us an image); list read in {one.read_s:.2f} s; peak {one.peak_gib:.2f} GiB"
    )


def ratios(database: str, measured: list[Measured]) -> str:
    """A line on how the time an image grows with the list."""
    largest = measured[-1]
    grown = [
        f"{largest.us_per_image / one.us_per_image:.2f} of that at {one.count:,}" for one in measured[:-1]
    ]
    return f"store on {database}: time an image at {largest.count:,}: {', '.join(grown) or '1.00'}"


if __name__ == "__main__":
    main()
