"""Counts the nuclei of each well from the feature tables that Measure Features wrote.

Runs in the environment of fractal-tasks-core, which has ngio:

    PYTHON nuclei.py DATASET.json NUCLEI.json

DATASET.json is a dataset as fractal_airflow exports it; NUCLEI.json becomes ``{"B03": 14, ...}``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ngio import open_ome_zarr_container

FEATURE_TABLE = "nuclei_features"


def projected_images(dataset: dict[str, Any]) -> dict[str, str]:
    """Return the ``zarr_url`` of each well's projected image, by well."""
    flat = (image for image in dataset["images"] if image["types"].get("is_3D") is False)
    return {image["attributes"]["well"]: image["zarr_url"] for image in flat}


def count_nuclei(zarr_url: str) -> int:
    """Return the number of rows of an image's feature table: one for each nucleus."""
    return len(open_ome_zarr_container(zarr_url).get_table(FEATURE_TABLE).dataframe)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the nuclei of each well.")
    parser.add_argument("dataset", type=Path, help="a dataset export")
    parser.add_argument("nuclei", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    images = projected_images(json.loads(arguments.dataset.read_text()))
    counts = {well: count_nuclei(zarr_url) for well, zarr_url in sorted(images.items())}
    arguments.nuclei.write_text(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
