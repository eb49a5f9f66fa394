"""Cuts a raw plate, as a microscope would write it, from one real image of nuclei.

Runs in the environment of fractal-uzh-converters, which has numpy, scipy and tifffile:

    PYTHON raw_plate.py IMAGE.tif FOLDER

The image is divided over the wells, so that no nucleus is in two of them and every well differs. A well is
two fields of view, one above the other; a field of view is three single-plane TIFFs, of which the outer two
are copies of the middle one, blurred and dimmed as out of focus.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

ROWS = ("B", "C")  # the outer wells of a plate are often left empty
COLUMNS = (3, 4, 5, 6)
FIELDS = 2
DEFOCUS_PX = 2.0  # standard deviation of the blur out of focus
DEFOCUS_DIMMING = 0.75  # the share of its brightness that is left out of focus
GRAY_LEVELS = 256  # the source uses 8 bits of its 16; spread them over the range of a real camera
DETAILS = """\
pixelsize = 0.65
z_spacing = 5.0
channel_names = ["DAPI"]
axes = ["c", "z", "y", "x"]
start_x_coo = "pixel"
start_y_coo = "pixel"
start_z_coo = "pixel"
"""


@dataclass(frozen=True)
class Field:
    """One field of view: where it lies in its well, and its pixels in focus."""

    row: str
    column: int
    index: int
    start_y: int
    pixels: np.ndarray


def cut_fields(image: np.ndarray) -> Iterator[Field]:
    """Divide an image into the fields of view of the plate, none of which overlap."""
    height, width = image.shape[0] // (len(ROWS) * FIELDS), image.shape[1] // len(COLUMNS)
    for row_index, row in enumerate(ROWS):
        for column_index, column in enumerate(COLUMNS):
            for index in range(FIELDS):
                top, left = (row_index * FIELDS + index) * height, column_index * width
                pixels = image[top : top + height, left : left + width]
                yield Field(row, column, index, start_y=index * height, pixels=pixels)


def focus_series(pixels: np.ndarray) -> list[np.ndarray]:
    """Return a field's z-planes as 16-bit images."""
    in_focus = pixels.astype(np.float32) * GRAY_LEVELS
    out_of_focus = gaussian_filter(in_focus, DEFOCUS_PX) * DEFOCUS_DIMMING
    limit = np.iinfo(np.uint16).max
    return [plane.clip(0, limit).astype(np.uint16) for plane in (out_of_focus, in_focus, out_of_focus)]


def write_field(field: Field, folder: Path) -> list[dict[str, object]]:
    """Write a field's TIFFs, and return their rows of tiles.csv."""
    rows: list[dict[str, object]] = []
    for z, plane in enumerate(focus_series(field.pixels)):
        name = f"{field.row}{field.column:02}_field{field.index + 1}_z{z + 1}.tif"
        tifffile.imwrite(folder / name, plane)
        rows.append(
            {
                "file_path": name,
                "row": field.row,
                "column": field.column,
                "fov_name": f"FOV_{field.index + 1}",
                "start_x": 0,
                "start_y": field.start_y,
                "start_z": z,
                "length_x": plane.shape[1],
                "length_y": plane.shape[0],
                "length_z": 1,
            }
        )
    return rows


def write_plate(image: np.ndarray, folder: Path) -> int:
    """Write the raw plate, and return the number of its TIFFs.

    The plate is built beside ``folder`` and renamed into place, so that an interrupted run leaves none.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    tiles = [row for field in cut_fields(image) for row in write_field(field, unfinished)]
    with (unfinished / "tiles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(tiles[0]))
        writer.writeheader()
        writer.writerows(tiles)
    (unfinished / "acquisition_details.toml").write_text(DETAILS)
    unfinished.rename(folder)
    return len(tiles)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut a raw plate from an image of nuclei.")
    parser.add_argument("image", type=Path, help="a 2D image of nuclei")
    parser.add_argument("folder", type=Path, help="the folder of the raw plate; replaced if it is there")
    arguments = parser.parse_args()
    count = write_plate(tifffile.imread(arguments.image), arguments.folder)
    print(f"{count} TIFFs of {len(ROWS) * len(COLUMNS)} wells in {arguments.folder}")


if __name__ == "__main__":
    main()
