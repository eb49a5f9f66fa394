"""Datasets as they are exported and imported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.dataset_file import DatasetFile, dump_dataset, parse_dataset
from fractal_airflow.fractal.images import Image

EXPORTED: dict[str, Any] = {
    "name": "plate 42",
    "zarr_dir": "/data/plate_42",
    "images": [
        {
            "zarr_url": "/data/plate_42/p.zarr/B/03/0",
            "origin": None,
            "types": {"is_3D": True},
            "attributes": {"well": "B03"},
        }
    ],
}


def test_a_dataset_is_read_and_written_unchanged() -> None:
    dataset = parse_dataset(EXPORTED)

    assert dataset == DatasetFile(
        "plate 42",
        "/data/plate_42",
        [Image("/data/plate_42/p.zarr/B/03/0", None, {"well": "B03"}, {"is_3D": True})],
    )
    assert json.loads(json.dumps(dump_dataset(dataset))) == EXPORTED


def test_images_may_be_missing_and_paths_are_normalised() -> None:
    assert parse_dataset({"name": "p", "zarr_dir": "s3://bucket//p/"}) == DatasetFile(
        "p", "s3://bucket/p", []
    )


def test_images_lie_below_the_normal_form_of_zarr_dir() -> None:
    data = {"name": "p", "zarr_dir": "/data/p/", "images": [{"zarr_url": "/data//p/a/"}]}

    assert parse_dataset(data).images == [Image("/data/p/a")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": None}, "A dataset must have a name, not None"),
        ({"name": "  "}, "A dataset must have a name, not '  '"),
        ({"zarr_dir": "plate"}, "Dataset 'plate 42': zarr_dir: 'plate' is neither"),
        ({"zarr_dir": None}, "Dataset 'plate 42': zarr_dir: None is not a path"),
        (
            {"zarr_dir": "/data/plate_4"},
            "Dataset 'plate 42': images[0]: '/data/plate_42/p.zarr/B/03/0' does not",
        ),
        ({"images": None}, "Dataset 'plate 42': An image list must be a list, not None"),
        ({"history": [], "filters": {}}, "A dataset has no keys ['filters', 'history']; it has"),
    ],
)
def test_what_breaks_a_rule_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ImageListError) as raised:
        parse_dataset({**EXPORTED, **change})

    assert str(raised.value).startswith(problem)


@pytest.mark.parametrize("data", [None, [], [EXPORTED], "plate"])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(ImageListError, match="A dataset must be an object with name, zarr_dir and images"):
        parse_dataset(data)
