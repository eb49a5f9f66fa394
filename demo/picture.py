"""Draws the plate: each well's projected image, and over it the outline of every nucleus.

Runs in the environment of fractal-tasks-core, which has ngio, scikit-image and matplotlib:

    PYTHON picture.py DATASET.json NUCLEI.json PLATE.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from ngio import open_ome_zarr_container
from nuclei import projected_images
from skimage.measure import find_contours

CHANNEL = "DAPI"
LABEL = "nuclei"
SCALE_BAR_UM = 20
WELL_WIDTH_IN = 2.6
GAP_IN = 0.14  # between wells
NAME_IN = 0.32  # above each well, for its name
MARGIN_IN = 0.3
TITLE_IN = 0.85
BACKGROUND, TEXT, FAINT_TEXT = "#0b0f1a", "#f4f6fb", "#9aa7c2"
OUTLINES = ("#ffd166", "#06d6a0", "#ff6b8b", "#4cc9f0", "#f79d65", "#c77dff")
STAIN = LinearSegmentedColormap.from_list("stain", ["#04060c", "#12294f", "#4f83cc", "#f2f7ff"])


@dataclass(frozen=True)
class Well:
    """What is drawn of one well."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    pixel_size_um: float
    nuclei: int

    @property
    def row(self) -> str:
        return self.name[0]

    @property
    def column(self) -> str:
        return self.name[1:]


def read_well(name: str, zarr_url: str, nuclei: int) -> Well:
    """Read a well's projected image and its nuclei at full resolution."""
    container = open_ome_zarr_container(zarr_url)
    image = container.get_image()
    pixels = image.get_array(channel_selection=CHANNEL)
    labels = container.get_label(LABEL).get_array()
    return Well(name, np.squeeze(pixels), np.squeeze(labels), image.pixel_size.x, nuclei)


def outlines(labels: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Yield the outlines of the nuclei as (x, y) points, closed along the image's edge, and their colours."""
    padded = np.pad(labels, 1)
    for label, colour in zip(np.unique(labels[labels > 0]), cycle(OUTLINES), strict=False):
        for contour in find_contours((padded == label).astype(float), 0.5):
            yield contour[:, ::-1] - 1, colour


def draw_well(axes: Axes, well: Well, brightness: PowerNorm) -> None:
    """Draw one well with the outlines of its nuclei, its name and their number."""
    axes.imshow(well.image, cmap=STAIN, norm=brightness, interpolation="bicubic")
    lines, colours = zip(*outlines(well.labels), strict=True)
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.6, capstyle="round"))
    height, width = well.image.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set(color="#33415c", linewidth=1)
    axes.set_title(well.name, loc="left", color=TEXT, size=13, weight="bold")
    axes.set_title(f"{well.nuclei} nuclei", loc="right", color=FAINT_TEXT, size=11)


def draw_scale_bar(figure: Figure, well: Well) -> None:
    """Draw a scale bar into the upper right corner, in the scale of the wells."""
    width, height = figure.get_size_inches()
    length = SCALE_BAR_UM / well.pixel_size_um / well.image.shape[1] * WELL_WIDTH_IN
    axes = figure.add_axes((0, 1 - TITLE_IN / height, 1, TITLE_IN / height), facecolor="none")
    axes.set(xlim=(0, width), ylim=(0, TITLE_IN))
    axes.axis("off")
    right = width - MARGIN_IN
    axes.plot([right - length, right], [0.3, 0.3], color=TEXT, linewidth=3, solid_capstyle="butt")
    axes.text(right - length / 2, 0.38, f"{SCALE_BAR_UM} µm", color=TEXT, size=10, ha="center", va="bottom")


def draw_title(figure: Figure, wells: list[Well]) -> None:
    """Write what is to be seen, above the plate."""
    width, height = figure.get_size_inches()
    total = sum(well.nuclei for well in wells)
    left, top = MARGIN_IN / width, 1 - 0.32 / height
    title = f"{total} nuclei in {len(wells)} wells"
    figure.text(left, top, title, color=TEXT, size=19, weight="bold", va="center")
    figure.text(
        left, top - 0.34 / height, f"{CHANNEL}, projected along z", color=FAINT_TEXT, size=11, va="center"
    )


def draw_plate(wells: list[Well]) -> Figure:
    """Draw all wells at their places on the plate, equally bright."""
    rows, columns = sorted({well.row for well in wells}), sorted({well.column for well in wells})
    pixels_high, pixels_wide = wells[0].image.shape
    cell = WELL_WIDTH_IN * pixels_high / pixels_wide
    width = 2 * MARGIN_IN + len(columns) * (WELL_WIDTH_IN + GAP_IN) - GAP_IN
    height = TITLE_IN + MARGIN_IN + len(rows) * (NAME_IN + cell + GAP_IN) - GAP_IN
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    dark, bright = np.percentile(np.concatenate([well.image.ravel() for well in wells]), (1, 99.5))
    brightness = PowerNorm(gamma=0.7, vmin=dark, vmax=bright, clip=True)
    for well in wells:
        left = MARGIN_IN + columns.index(well.column) * (WELL_WIDTH_IN + GAP_IN)
        top = TITLE_IN + NAME_IN + rows.index(well.row) * (NAME_IN + cell + GAP_IN)
        place = (left / width, 1 - (top + cell) / height, WELL_WIDTH_IN / width, cell / height)
        draw_well(figure.add_axes(place), well, brightness)
    draw_title(figure, wells)
    draw_scale_bar(figure, wells[0])
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the plate with its segmentation.")
    parser.add_argument("dataset", type=Path, help="a dataset export")
    parser.add_argument("nuclei", type=Path, help="the number of nuclei by well")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    images = projected_images(json.loads(arguments.dataset.read_text()))
    counts = json.loads(arguments.nuclei.read_text())
    wells = [read_well(name, zarr_url, counts[name]) for name, zarr_url in sorted(images.items())]
    draw_plate(wells).savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
