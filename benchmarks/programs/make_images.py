"""Make OME-Zarr images of nuclei: ``PYTHON_WITH_NGIO make_images.py FOLDER COUNT``.

Each has 1 z-plane, 2 channels and 512 x 512 pixels of 16 bits, and is named INDEX.zarr.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ngio import create_ome_zarr_from_array

SIZE = 512
NUCLEI = 60


def nuclei(seed: int) -> np.ndarray:
    """Return an image with the axes c, z, y, x: bright round nuclei on a noisy background."""
    random = np.random.default_rng(seed)
    image = random.normal(200, 20, (2, 1, SIZE, SIZE))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for _ in range(NUCLEI):
        y, x, radius = random.uniform(0, SIZE), random.uniform(0, SIZE), random.uniform(6, 14)
        distance = ((rows - y) ** 2 + (columns - x) ** 2) / radius**2
        image[0, 0] += 2000 * np.exp(-(distance**2))
    return image.clip(0, 65535).astype("uint16")


def main(folder: Path, count: int) -> None:
    different = [nuclei(seed) for seed in range(min(count, 4))]
    for index in range(count):
        create_ome_zarr_from_array(
            store=str(folder / f"{index}.zarr"),
            array=np.roll(different[index % len(different)], index, axis=-1),
            pixelsize=0.325,
            axes_names="czyx",
            channels_meta=["DAPI", "GFP"],
            overwrite=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
