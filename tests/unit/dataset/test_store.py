"""Datasets in the store: adding, finding, exporting, importing and deleting them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fractal_airflow.dataset import DatasetStore, ImageStatus
from fractal_airflow.exceptions import DatasetError, DatasetNotFoundError, ImageListError
from fractal_airflow.fractal.images import Image, Scalar
from tests.unit.dataset.changes import ZARR_DIR, add, image, plate, step, urls


def test_a_new_dataset_has_version_one_and_its_images_in_order(store: DatasetStore) -> None:
    made = store.create("plate", ZARR_DIR, [image("b"), image("a"), image("c")])

    assert (made.name, made.zarr_dir, made.version, made.image_count) == ("plate", ZARR_DIR, 1, 3)
    assert urls(store.images("plate")) == ["b", "a", "c"]
    assert store.get("plate") == made


def test_times_are_in_utc(store: DatasetStore) -> None:
    made = store.create("plate", ZARR_DIR)

    assert made.created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=1)


def test_an_image_comes_back_with_the_very_types_of_its_values(store: DatasetStore) -> None:
    values: dict[str, Scalar] = {
        "a": 1,
        "b": 1.0,
        "c": True,
        "d": "1",
        "e": 10**30,
        "f": -0.5,
        "g": "\x00µ",
    }
    store.create("plate", ZARR_DIR, [Image(f"{ZARR_DIR}/a", f"{ZARR_DIR}/o", values, {"is_3D": False})])

    (back,) = store.images("plate")

    assert back == Image(f"{ZARR_DIR}/a", f"{ZARR_DIR}/o", values, {"is_3D": False})
    assert {key: type(value) for key, value in back.attributes.items()} == {
        key: type(value) for key, value in values.items()
    }


@pytest.mark.parametrize("name", ["a b", "it's", '"q"', "$(x)", "new\nline", "ß日本", "%s", "\\", "x" * 2000])
def test_odd_paths_and_names_simply_work(store: DatasetStore, name: str) -> None:
    store.create(name, ZARR_DIR, [image(name)])
    store.merge(name, step(), add("other"), [ImageStatus(f"{ZARR_DIR}/{name}", "done", error=name)])

    assert urls(store.images(name)) == [name, "other"]
    assert [row.error for row in store.statuses(name, zarr_url=f"{ZARR_DIR}/{name}")] == [name]


@pytest.mark.parametrize("name", ["nul\x00", "not-unicode\udcff"])
def test_a_path_that_no_database_stores_is_refused(store: DatasetStore, name: str) -> None:
    plate(store, "a")

    with pytest.raises(ImageListError, match=r"nul|unicode"):
        store.merge("plate", step(), add(name))

    assert urls(store.images("plate")) == ["a"]


def test_a_value_that_json_cannot_carry_is_refused(store: DatasetStore) -> None:
    plate(store, "a")
    nan = Image(f"{ZARR_DIR}/nan", None, {"score": float("nan")}, {})

    with pytest.raises(ImageListError, match=r"plate/nan"):
        store.merge("plate", step(), lambda images, removed: [*images, nan])

    assert urls(store.images("plate")) == ["a"]


def test_a_name_is_taken_once(store: DatasetStore) -> None:
    plate(store, "a")

    with pytest.raises(DatasetError, match=r"'plate' already"):
        store.create("plate", "/data/other")

    assert store.get("plate").zarr_dir == ZARR_DIR


def test_an_image_outside_the_zarr_dir_is_refused(store: DatasetStore) -> None:
    with pytest.raises(DatasetError, match=r"/data/plate_other/x"):
        store.create("plate", ZARR_DIR, [Image("/data/plate_other/x", None, {}, {})])

    assert store.list_datasets() == []


def test_get_or_create_makes_a_dataset_once(store: DatasetStore) -> None:
    first = store.get_or_create("plate", ZARR_DIR)
    store.merge("plate", step(), add("a"))
    second = store.get_or_create("plate", f"{ZARR_DIR}/")

    assert (first.version, first.image_count) == (1, 0)
    assert (second.version, second.image_count) == (2, 1)


def test_get_or_create_names_both_folders_where_they_differ(store: DatasetStore) -> None:
    store.get_or_create("plate", ZARR_DIR)

    with pytest.raises(DatasetError, match=r"'/data/plate', not '/data/elsewhere'"):
        store.get_or_create("plate", "/data/elsewhere")


def test_a_missing_dataset_is_named_with_those_that_exist(store: DatasetStore) -> None:
    plate(store, "a")

    with pytest.raises(DatasetNotFoundError, match=r"no dataset 'plat' in .*existing ones: 'plate'"):
        store.images("plat")


def test_datasets_are_listed_by_name(store: DatasetStore) -> None:
    for name in ("b", "a", "c"):
        store.create(name, ZARR_DIR)

    assert [one.name for one in store.list_datasets()] == ["a", "b", "c"]


def test_a_deleted_dataset_leaves_nothing_behind_and_others_alone(store: DatasetStore) -> None:
    plate(store, "a")
    store.merge("plate", step(), add("b"), [ImageStatus(f"{ZARR_DIR}/a", "done", seconds=1.0)])
    store.create("other", ZARR_DIR, [image("o")])

    store.delete("plate")

    assert [one.name for one in store.list_datasets()] == ["other"]
    assert store.mean_seconds("Threshold") is None
    plate(store)
    assert (store.images("plate"), store.statuses("plate")) == ([], [])
    assert urls(store.images("other")) == ["o"]


def test_an_export_can_be_imported_elsewhere(store: DatasetStore) -> None:
    store.create("plate", ZARR_DIR, [image("a", is_3D=True), image("b", well="C01")])
    exported = store.export("plate")

    assert exported["images"][0] == {
        "zarr_url": f"{ZARR_DIR}/a",
        "origin": None,
        "types": {"is_3D": True},
        "attributes": {"well": "B03"},
    }
    store.import_dataset({**exported, "name": "copy"})
    assert store.export("copy") == {**exported, "name": "copy"}
    assert [one.what for one in store.versions("copy")] == ["imported"]


def test_an_earlier_version_can_be_exported(store: DatasetStore) -> None:
    plate(store, "a")
    before = store.export("plate")
    store.merge("plate", step(), add("b"))

    assert store.export("plate", version=1) == before


def test_an_import_does_not_overwrite_unless_told_to_and_then_keeps_history(store: DatasetStore) -> None:
    plate(store, "a", "b")
    other = {**store.export("plate"), "images": store.export("plate")["images"][1:]}

    with pytest.raises(DatasetError, match=r"already"):
        store.import_dataset(other)
    assert store.get("plate").version == 1

    assert store.import_dataset(other, replace=True).version == 2
    assert urls(store.images("plate")) == ["b"]
    assert urls(store.images("plate", version=1)) == ["a", "b"]


def test_an_import_that_breaks_the_rules_changes_nothing(store: DatasetStore) -> None:
    plate(store, "a")
    bad = {**store.export("plate"), "images": store.export("plate")["images"] * 2}

    with pytest.raises(ImageListError, match=r"/data/plate/a"):
        store.import_dataset(bad, replace=True)

    assert store.get("plate").version == 1
