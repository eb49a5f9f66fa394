from __future__ import annotations

import pytest
from summary import print_summary

DATASET = {
    "name": "plate",
    "zarr_dir": "/data/zarr",
    "images": [
        {
            "zarr_url": "/data/zarr/plate.zarr/B/03/0",
            "origin": None,
            "attributes": {"well": "B03"},
            "types": {"is_3D": True},
        },
        {
            "zarr_url": "/data/zarr/plate_mip.zarr/B/03/0",
            "origin": "/data/zarr/plate.zarr/B/03/0",
            "attributes": {"well": "B03", "acquisition": 0},
            "types": {"is_3D": False},
        },
    ],
}

TEXT = """
Image list of dataset plate: 2 images

  zarr_url                origin              acquisition   well   is_3D
 ────────────────────────────────────────────────────────────────────────
  plate.zarr/B/03/0       -                   -             B03    True
  plate_mip.zarr/B/03/0   plate.zarr/B/03/0   0             B03    False

Nuclei per well: 30 in all

      03   04
 ─────────────
  B   16   12
  C         2

Where everything lies
  Picture            /data/a folder/plate.png
"""


def test_summary_shows_images_nuclei_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(DATASET, {"B03": 16, "B04": 12, "C04": 2}, {"Picture": "/data/a folder/plate.png"})

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == TEXT.splitlines()
