"""``airflow fractal dataset …``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_airflow.cli.datasets import attribute_filters
from tests.cli.conftest import Call
from tests.services.airflow import AirflowHome


@pytest.fixture
def plate(airflow: AirflowHome) -> AirflowHome:
    """A dataset with three versions: empty, two images, three of which the first has changed."""
    airflow.add_images("B/03", "B/04", is_3D=True)
    data = airflow.store.export("plate")
    data["images"][0]["attributes"]["cycle"] = 1
    data["images"].append({"zarr_url": airflow.url("B/05"), "attributes": {"well": "B05", "[b]": True}})
    airflow.store.import_dataset(data, replace=True)
    return airflow


def test_list_and_show(plate: AirflowHome, call: Call) -> None:
    plate.store.create("another", "s3://bucket/data")

    (another, listed) = json.loads(call("dataset", "list", "-o", "json").out)
    shown = json.loads(call("dataset", "show", "plate", "--output", "json").out)

    assert (another["name"], another["images"], another["zarr_dir"]) == ("another", 0, "s3://bucket/data")
    assert listed.items() <= shown.items()
    assert (shown["name"], shown["images"], shown["version"]) == ("plate", 3, 3)
    assert shown["zarr_dir"] == str(plate.data)
    assert shown["types"] == {"is_3D": 2}
    assert shown["attributes"] == {
        "plate": {"plate": 2},
        "well": {"B03": 1, "B04": 1, "B05": 1},
        "cycle": {"1": 1},
        "[b]": {"true": 1},
    }
    assert str(plate.data) in call("dataset", "list").out
    assert "B05" in call("dataset", "show", "plate").out


def test_images_are_listed_whole_where_there_is_no_terminal(plate: AirflowHome, call: Call) -> None:
    table = call("dataset", "images", "plate").out

    for well in ("B/03", "B/04", "B/05"):
        assert f" {plate.url(well)} " in table
    assert "[b]=yes" in table
    images = json.loads(call("dataset", "images", "plate", "--output", "json").out)
    assert images == plate.store.export("plate")["images"]


@pytest.mark.parametrize(
    ("options", "wells"),
    [
        (["--attribute", "well=B03"], ["B/03"]),
        (["--attribute", "well=B03", "--attribute", "well=B05"], ["B/03", "B/05"]),
        (["--attribute", "well=B03", "--attribute", "plate=other"], []),
        (["--attribute", "cycle=1.0"], ["B/03"]),
        (["--attribute", "[b]=true"], ["B/05"]),
        (["--attribute", "[b]=1"], []),
        (["--at-version", "2"], ["B/03", "B/04"]),
        (["--at-version", "2", "--attribute", "cycle=1"], []),
    ],
)
def test_images_by_attribute_and_version(
    plate: AirflowHome, call: Call, options: list[str], wells: list[str]
) -> None:
    images = json.loads(call("dataset", "images", "plate", "-o", "json", *options).out)

    assert [image["zarr_url"] for image in images] == [plate.url(well) for well in wells]


def test_attribute_texts_are_values_as_text_and_as_json() -> None:
    assert attribute_filters(["a=x", "b=1", "b=true", "c=null", "d=x=y"]) == {
        "a": ["x"],
        "b": ["1", 1, "true", True],
        "c": ["null"],
        "d": ["x=y"],
    }


def test_an_export_can_be_imported_again(plate: AirflowHome, call: Call) -> None:
    exported = call("dataset", "export", "plate").out
    assert json.loads(exported) == plate.store.export("plate")
    assert len(json.loads(call("dataset", "export", "plate", "--at-version", "1").out)["images"]) == 0
    file = plate.home / "export.json"
    file.write_text(exported, encoding="utf-8")

    taken = call("dataset", "import", str(file))
    assert (taken.code, "'plate'" in taken.err) == (1, True)
    call("dataset", "delete", "plate", "--yes")
    made = call("dataset", "import", str(file))

    assert (made.code, made.out) == (0, "Dataset 'plate': 3 images\n")
    assert call("dataset", "export", "plate").out == exported


def test_versions_diff_and_restore(plate: AirflowHome, call: Call) -> None:
    versions = json.loads(call("dataset", "versions", "plate", "-o", "json").out)
    assert [(version["version"], version["added"], version["updated"]) for version in versions] == [
        (1, 0, 0),
        (2, 2, 0),
        (3, 1, 1),
    ]
    (added, changed) = json.loads(call("dataset", "diff", "plate", "2", "3", "-o", "json").out)
    assert (added["change"], added["zarr_url"]) == ("added", plate.url("B/05"))
    assert changed["before"]["attributes"] == {"plate": "plate", "well": "B03"}
    assert changed["attributes"] == {"plate": "plate", "well": "B03", "cycle": 1}
    table = call("dataset", "diff", "plate", "3", "2").out
    assert "removed" in table
    assert "cycle=1, plate=plate, well=B03 → plate=plate, well=B03" in table

    ended = call("dataset", "restore", "plate", "2")

    assert ended.out == "Dataset 'plate' is at version 4, equal to version 2\n"
    assert plate.store.images("plate") == plate.store.images("plate", 2)


def test_delete_asks_first(plate: AirflowHome, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("", "n\n", "no\n"):
        monkeypatch.setattr(sys, "stdin", _typed(plate, answer))
        ended = call("dataset", "delete", "plate")
        assert ended.code == 1
        assert "Forget dataset 'plate' with 3 images" in ended.out
        assert plate.store.get("plate").image_count == 3

    monkeypatch.setattr(sys, "stdin", _typed(plate, "y\n"))
    assert call("dataset", "delete", "plate").code == 0
    assert plate.store.list_datasets() == []
    assert Path(plate.url("B/03")).exists()


def _typed(airflow: AirflowHome, text: str):  # type: ignore[no-untyped-def]
    path = airflow.home / "typed.txt"
    path.write_text(text, encoding="utf-8")
    return path.open(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["show", "nothing"], ["nothing"]),
        (["images", "nothing"], ["nothing"]),
        (["images", "plate", "--attribute", "well"], ["'well'", "KEY=VALUE"]),
        (["images", "plate", "--at-version", "7"], ["7"]),
        (["export", "nothing"], ["nothing"]),
        (["import", "/no/such/file.json"], ["/no/such/file.json"]),
        (["versions", "nothing"], ["nothing"]),
        (["diff", "plate", "1", "7"], ["7"]),
        (["restore", "plate", "7"], ["7"]),
        (["delete", "nothing", "--yes"], ["nothing"]),
    ],
)
def test_what_does_not_exist_is_named(
    plate: AirflowHome, call: Call, command: list[str], named: list[str]
) -> None:
    ended = call("dataset", *command)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    for text in named:
        assert text in ended.err


def test_a_store_that_cannot_be_reached_is_named_without_its_password(
    airflow: AirflowHome, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID", "datasets")
    ended = call("dataset", "list")
    assert (ended.code, "'datasets'" in ended.err) == (1, True)

    monkeypatch.setenv("AIRFLOW_CONN_DATASETS", "postgresql://someone:secret@127.0.0.1:1/images")
    ended = call("dataset", "list")
    assert ended.code == 1
    assert "127.0.0.1" in ended.err
    assert "secret" not in ended.err


def test_a_reader_that_has_enough_ends_the_command_quietly(plate: AirflowHome) -> None:
    command = [str(Path(sys.executable).parent / "airflow"), "fractal", "dataset", "export", "plate"]
    reader, writer = os.pipe()
    os.close(reader)

    ended = subprocess.run(
        command, env=plate.environment(), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )

    assert (ended.returncode, ended.stderr) == (1, "")
