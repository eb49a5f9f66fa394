"""How long it takes to read the outputs of a step and to apply them to the image list, without any store.

A list of N images, and N units that each return one update. Each measurement is a process of its own, so
that its peak memory is its own: it counts the images, the outputs as JSON objects, and all that is made of
them. The best of several processes counts, since memory is slow to come by on a busy machine. Run it as
``python -m benchmarks.merge_images``; ``--sizes`` and ``--repeat`` make it shorter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from dataclasses import dataclass
from typing import Any

from fractal_airflow.collector import collector_paused
from fractal_airflow.fractal import Image, UnitResult, merge_step, parse_task_output

ZARR_DIR = "/data/screen"
LIMIT_S = {20_000: 0.5, 1_000_000: 40.0}
LIMIT_GIB = {1_000_000: 3.0}
BASE, LARGEST, LIMIT_RATIO = 100_000, 1_000_000, 1.3


@dataclass(frozen=True)
class Measured:
    """Reading and applying ``count`` updates of ``count`` images."""

    count: int
    read_s: float
    apply_s: float
    peak_gib: float

    @property
    def total_s(self) -> float:
        """Seconds from the outputs as JSON objects to the next image list."""
        return self.read_s + self.apply_s

    @property
    def us_per_image(self) -> float:
        """Microseconds of all that for each image."""
        return self.total_s / self.count * 1e6


def main() -> None:
    """Measure every size and print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, BASE, LARGEST])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    best = {}
    for count in options.sizes:
        best[count] = min((in_own_process(count) for _ in range(options.repeat)), key=lambda one: one.total_s)
        print(figures(best[count]), flush=True)
    if {BASE, LARGEST} <= best.keys():
        print(growth(best[BASE], best[LARGEST]), flush=True)


def in_own_process(count: int) -> Measured:
    """Measure in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (count,))


def measure(count: int) -> Measured:
    """Read and apply one update an image."""
    images = [Image(image_url(index), None, attributes(index), {"is_3D": True}) for index in range(count)]
    outputs = [json.loads(output_text(index)) for index in range(count)]
    urls = [image.zarr_url for image in images]
    began = time.process_time()
    with collector_paused():
        results = [
            UnitResult(url, parse_task_output(output)) for url, output in zip(urls, outputs, strict=True)
        ]
        read = time.process_time()
        after = merge_step(
            images, results, zarr_dir=ZARR_DIR, input_urls=urls, output_types={"segmented": True}
        )
        ended = time.process_time()
    assert len(after) == count
    assert after[-1].attributes == {**attributes(count - 1), "channel": "DAPI"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return Measured(count, read - began, ended - read, peak)


def image_url(index: int) -> str:
    """Where the image of one field of view is."""
    return f"{ZARR_DIR}/plate_{index // 1000}.zarr/{'ABCDEFGH'[index % 8]}/{index % 12 + 1}/{index}"


def attributes(index: int) -> dict[str, Any]:
    """What a converter says of an image."""
    well = f"{'ABCDEFGH'[index % 8]}{index % 12 + 1:02}"
    return {"plate": f"plate_{index // 1000}.zarr", "well": well, "acquisition": 0}


def output_text(index: int) -> str:
    """What a unit writes into its out file."""
    update = {"zarr_url": image_url(index), "attributes": {"channel": "DAPI"}, "types": {"masked": True}}
    return json.dumps({"image_list_updates": [update]})


def figures(one: Measured) -> str:
    """A line for one measurement."""
    line = (
        f"merging {one.count:>9,} updates: {one.total_s:.3f} s{share(one.total_s, LIMIT_S.get(one.count), 's')} "
        f"({one.us_per_image:.2f} us an image: reading {one.read_s:.3f} s, applying {one.apply_s:.3f} s); "
    )
    return f"{line}peak {one.peak_gib:.2f} GiB{share(one.peak_gib, LIMIT_GIB.get(one.count), 'GiB')}"


def share(value: float, limit: float | None, unit: str) -> str:
    """How much of what is allowed that is."""
    return f", {value / limit:.2f} of the {limit:g} {unit} allowed" if limit else ""


def growth(base: Measured, largest: Measured) -> str:
    """A line on how the time an image grows with the list."""
    ratio = largest.us_per_image / base.us_per_image
    applying = (largest.apply_s / largest.count) / (base.apply_s / base.count)
    return (
        f"merging: time an image at {largest.count:,} is {ratio:.2f} of that at {base.count:,} "
        f"(at most {LIMIT_RATIO} allowed); applying alone {applying:.2f}"
    )


if __name__ == "__main__":
    main()
