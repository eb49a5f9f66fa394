from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from layout import Layout

DESCRIBE = """
import json, sys
from pathlib import Path
import tifffile
tiffs = {}
for path in Path(sys.argv[1]).glob("*.tif"):
    pixels = tifffile.imread(path)
    tiffs[path.name] = {"type": str(pixels.dtype), "shape": pixels.shape}
    tiffs[path.name] |= {"sum": int(pixels.sum()), "std": float(pixels.std())}
print(json.dumps(tiffs))
"""


@pytest.fixture(scope="module")
def tiffs(shared: Layout, raw_plate: Path) -> dict[str, dict[str, Any]]:
    """What is in each TIFF of the plate."""
    python = shared.environments / "uzh" / "bin" / "python"
    described = subprocess.run([python, "-c", DESCRIBE, raw_plate], check=True, capture_output=True)
    return dict(json.loads(described.stdout))


def tiles(raw_plate: Path) -> list[dict[str, str]]:
    with (raw_plate / "tiles.csv").open() as file:
        return list(csv.DictReader(file))


def test_has_two_rows_of_four_wells_with_three_planes(raw_plate: Path) -> None:
    rows = tiles(raw_plate)

    assert {(row["row"], row["column"]) for row in rows} == {(r, c) for r in "BC" for c in "3456"}
    planes = {(row["row"], row["column"], row["fov_name"], row["start_z"]) for row in rows}
    assert len(planes) == len(rows) == 2 * 4 * 2 * 3


def test_table_names_every_tiff_with_its_size(raw_plate: Path, tiffs: dict[str, dict[str, Any]]) -> None:
    named = {row["file_path"]: [int(row["length_y"]), int(row["length_x"])] for row in tiles(raw_plate)}

    assert named == {name: tiff["shape"] for name, tiff in tiffs.items()}


def test_pixels_have_16_bits(tiffs: dict[str, dict[str, Any]]) -> None:
    assert {tiff["type"] for tiff in tiffs.values()} == {"uint16"}


def test_wells_differ(tiffs: dict[str, dict[str, Any]]) -> None:
    in_focus = [tiff["sum"] for name, tiff in tiffs.items() if name.endswith("z2.tif")]

    assert len(set(in_focus)) == len(in_focus) == 16


def test_outer_planes_are_out_of_focus(tiffs: dict[str, dict[str, Any]]) -> None:
    for name, tiff in tiffs.items():
        in_focus = tiffs[name[: -len("z1.tif")] + "z2.tif"]
        assert name.endswith("z2.tif") or tiff["std"] < in_focus["std"]
