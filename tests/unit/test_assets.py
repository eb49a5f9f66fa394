"""One dataset is one asset, whoever names it and however its name is written."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset

from fractal_airflow import FractalDataset

STORE = "AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID"
ODD_NAMES = ["my plate", "a/b", "/a/", "..", "Größe 微", 'it\'s "it"', "100%", "a%2Fb", "a?b#c&d", "Raw:1@x"]


def test_the_uri_names_the_store_and_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FractalDataset("raw").uri == "fractal://local/raw"

    monkeypatch.setenv(STORE, "lab datasets")

    assert FractalDataset("raw").uri == "fractal://lab%20datasets/raw"


def test_the_name_is_for_people() -> None:
    asset = FractalDataset("Größe 1/2").asset

    assert asset.name == "dataset Größe 1/2"
    assert asset.uri == "fractal://local/Gr%C3%B6%C3%9Fe%201%2F2"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_airflow_leaves_the_uri_as_it_is(name: str) -> None:
    dataset = FractalDataset(name)

    assert dataset.asset.uri == dataset.uri
    assert dataset.asset.normalized_uri == dataset.uri


def test_odd_names_stay_apart() -> None:
    assert len({FractalDataset(name).uri for name in ODD_NAMES}) == len(ODD_NAMES)


def test_an_asset_has_what_airflow_gives_to_those_that_events_make() -> None:
    # Of another group or with an extra, the asset of an event would not be the one that a DAG waits for.
    asset = FractalDataset("raw").asset

    assert asset == Asset(name=asset.name, uri=asset.uri)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("fractal://local/my plate", "my plate"),
        ("FRACTAL://local/raw/", "raw"),
        ("fractal://local/a/b", "a/b"),
        ("fractal://local/it's 100%", "it's 100%"),
        ("fractal://local/微", "微"),
    ],
)
def test_a_uri_that_is_written_by_hand_is_encoded(written: str, meant: str) -> None:
    assert Asset(written).uri == FractalDataset(meant).uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("fractal:raw", "names no store: write the setting dataset_conn_id, or 'local'"),
        ("fractal:///raw", "names no store"),
        ("fractal://local", "names no dataset"),
        ("fractal://local/", "names no dataset"),
        ("fractal://local/%20", "names no dataset"),
        ("fractal://me@local/raw", "no user, password or port"),
        ("fractal://local:5432/raw", "no user, password or port"),
        ("fractal://local/raw?version=3", "written %3F"),
    ],
)
def test_a_uri_that_is_none_is_refused(uri: str, said: str) -> None:
    with pytest.raises(ValueError, match="is not fractal://STORE/NAME") as refused:
        Asset(uri)

    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a dataset"):
        FractalDataset(name)
