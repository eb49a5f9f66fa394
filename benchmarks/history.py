"""What the run history costs: writing it with 20 000 units, and asking it at 200 000 images what is unchanged.

Each part is a process of its own, so that its peak memory is its own. Run it as
``python -m benchmarks.history``; ``--units``, ``--images`` and ``--databases`` make it shorter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.dataset_store import ZARR_DIR, attributes, empty_store
from fractal_airflow.dataset import DatasetStore, ImageStatus, StepCall, StepRun
from fractal_airflow.dataset import store as store_module
from fractal_airflow.fractal.images import Image

STEPS = 6
WRITING_LIMIT_S = 2.0
ASKING_LIMIT_S = 1.0
MEMORY_LIMIT_GIB = 1.0
CALL = StepCall("lab-tasks", "1.0", "Segment", {"parallel": {"level": 2}}, "0123456789abcdef", "local")
IN_MERGE = ("find_writes", "refuse_conflict", "count_merge", "write_statuses", "record_writes")
"""The parts of a merge that write the history; all but the statuses came with it."""


@dataclass
class Measured:
    """Seconds by what took them, and the peak memory of the process that did it."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: float = 0.0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began

    def done(self) -> Measured:
        """Note the peak, at the end."""
        self.peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        return self


def main() -> None:
    """Measure on every database and print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for database in options.databases:
        for count in sorted({options.units, options.images}):
            with empty_store(database) as url:
                print(
                    writing_figures(database, count, in_own_process(measure_writing, url, count)), flush=True
                )
        with empty_store(database) as url:
            in_own_process(fill, url, options.images)
            asked = in_own_process(measure_asking, url)
            print(asking_figures(database, options.images, asked), flush=True)
            in_own_process(fill_beside, url)
            beside = in_own_process(measure_beside, url)
            print(beside_figures(database, options.images, asked, beside), flush=True)


def in_own_process(part: Callable[..., Any], *arguments: object) -> Any:
    """What the function returns, called in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(part, arguments)


def measure_writing(url: str, count: int) -> Measured:
    """Submit all images of a dataset to a step, and merge it, as a run does."""
    store = DatasetStore(url)
    store.create("screen", ZARR_DIR, new_images(range(count)))
    snapshot = store.snapshot("screen")
    urls = [image.zarr_url for image in snapshot.images]
    measured = Measured()
    with measured.timed("submit"):
        store.submit("screen", step(0), CALL, urls)
    statuses = done(urls)
    with timed_parts(measured), measured.timed("merge"):
        merged = store.merge(
            *("screen", step(0), edit(set(urls)), statuses),
            selected_at=snapshot.mark,
            version=snapshot.version,
            announce=True,
        )
    assert merged.written == count
    return measured.done()


def fill(url: str, count: int) -> None:
    """Give a dataset the past that slows questions most: two whole runs, then two of 1 % of the images each."""
    store = DatasetStore(url)
    store.create("screen", ZARR_DIR, new_images(range(count)))
    urls = [image.zarr_url for image in store.images("screen")]
    one_percent = urls[::100]
    for night, processed in enumerate([urls, urls, one_percent, one_percent]):
        for index in range(STEPS):
            store.merge("screen", step(index, night), edit(set(processed)), done(processed))


def measure_asking(url: str) -> Measured:
    """Ask, for every step of the next run, all that a select asks; then read the list and merge one image."""
    store, measured = DatasetStore(url), Measured()
    for index in range(STEPS):
        now = step(index, 9)
        with measured.timed(f"unchanged, step {index}"):
            found = store.unchanged("screen", now, CALL.fingerprint)
        with measured.timed(f"failed_before, step {index}"):
            store.failed_before("screen", now)
        with measured.timed(f"written_in_run, step {index}"):
            store.written_in_run("screen", now.dag_id, step(0, 1).run_id, index)
        with measured.timed(f"failed_in_run, step {index}"):
            store.failed_in_run("screen", now.dag_id, step(0, 1).run_id, index)
        with measured.timed(f"settle, step {index}"):
            store.settle("screen", lambda dag_id, run_id: "success")
    snapshot = store.snapshot("screen")
    assert len(found) == len(snapshot.images)
    store.merge("screen", step(0, 9), edit(found), done(sorted(found)), selected_at=snapshot.mark)
    return measured.done()


def fill_beside(url: str) -> None:
    """Let a step of another DAG edit every image after all of them."""
    store = DatasetStore(url)
    urls = [image.zarr_url for image in store.images("screen")]
    store.merge("screen", replace(step(0), dag_id="other"), edit(set(urls)), done(urls))


def measure_beside(url: str) -> Measured:
    """Ask what is unchanged where another DAG has written all images since."""
    store, measured = DatasetStore(url), Measured()
    with measured.timed("unchanged"):
        found = store.unchanged("screen", step(0, 8), CALL.fingerprint)
    assert len(found) == len(store.images("screen"))
    return measured.done()


@contextmanager
def timed_parts(measured: Measured) -> Iterator[None]:
    """Time the parts of merging that write the history."""
    parts = {name: getattr(store_module, name) for name in IN_MERGE}

    def timed(name: str) -> Callable[..., Any]:
        def part(*arguments: Any, **options: Any) -> Any:
            with measured.timed(name):
                return parts[name](*arguments, **options)

        return part

    for name in parts:
        setattr(store_module, name, timed(name))
    try:
        yield
    finally:
        for name, part in parts.items():
            setattr(store_module, name, part)


def new_images(numbers: Sequence[int]) -> Iterator[Image]:
    """Images as a converter adds them."""
    for i in numbers:
        well = f"{'ABCDEFGH'[i % 8]}/{i % 12 + 1}"
        yield Image(f"{ZARR_DIR}/plate_{i // 1000}.zarr/{well}/{i}", None, attributes(i), {})


def step(index: int, night: int = 0) -> StepRun:
    """A step of the run of this night."""
    return StepRun(
        "nuclei", f"scheduled__2026-01-{night + 1:02}T00:00:00+00:00", index, f"lab-tasks/Step {index}"
    )


def edit(urls: set[str]) -> store_module.Change:
    """What the rules do of a step that says nothing of its images: their entries are made anew."""
    return lambda images, removed: [replace(one) if one.zarr_url in urls else one for one in images]


def done(urls: Sequence[str]) -> list[ImageStatus]:
    """The statuses of units that succeeded."""
    log = "/data/runs/nuclei/scheduled__2026-01-01/00_segment/0000-0123456789ab/1/0-log.txt"
    return [
        ImageStatus(
            url, "done", map_index=0, log=log, fingerprint=CALL.fingerprint, seconds=0.2, try_number=1
        )
        for url in urls
    ]


def writing_figures(database: str, count: int, one: Measured) -> str:
    """Two lines on writing: the history's parts, and what a merge is slower with them than without."""
    ended = sum(one.seconds[name] for name in IN_MERGE)
    added = ended - one.seconds["write_statuses"]
    limit = WRITING_LIMIT_S * count / 20_000
    return (
        f"history on {database}: {count:>7,} units submitted in {one.seconds['submit']:.2f} s "
        f"({one.seconds['submit'] / limit:.2f} of the {limit:g} s allowed), "
        f"ended in {ended:.2f} s ({ended / limit:.2f}); peak {one.peak_gib:.2f} GiB\n"
        f"history on {database}: {count:>7,} units merged in {one.seconds['merge']:.2f} s, "
        f"{one.seconds['merge'] / (one.seconds['merge'] - added):.2f} times that of a merge without "
        f"writes and conflicts ({added:.2f} s)"
    )


def asking_figures(database: str, count: int, one: Measured) -> str:
    """A line for each question, with its slowest step, and one on the memory."""
    slowest: dict[str, float] = {}
    for what, seconds in one.seconds.items():
        question = what.split(",")[0]
        slowest[question] = max(seconds, slowest.get(question, 0.0))
    lines = [
        f"history on {database}: {count:>7,} images, {question} in {seconds:.2f} s at most "
        f"({seconds / ASKING_LIMIT_S:.2f} of the {ASKING_LIMIT_S:g} s allowed)"
        for question, seconds in slowest.items()
    ]
    share = one.peak_gib / MEMORY_LIMIT_GIB
    memory = (
        f"history on {database}: {count:>7,} images selected and merged with {one.peak_gib:.2f} GiB at most"
    )
    return "\n".join([*lines, f"{memory} ({share:.2f} of the {MEMORY_LIMIT_GIB:g} GiB allowed)"])


def beside_figures(database: str, count: int, alone: Measured, beside: Measured) -> str:
    """A line on what a step of another DAG that edits the same images adds to a question."""
    before, now = alone.seconds["unchanged, step 0"], beside.seconds["unchanged"]
    return (
        f"history on {database}: {count:>7,} images, unchanged in {now:.2f} s where a step of another DAG has "
        f"edited them all since: {now / before:.2f} times that of a DAG alone"
    )


if __name__ == "__main__":
    main()
