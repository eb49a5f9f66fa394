"""An image list that is changed from outside: what led to the changed images is computed again."""

from __future__ import annotations

from dataclasses import replace

from fractal_airflow.dataset import NO_IMAGE, DatasetStore, ImageStatus
from fractal_airflow.fractal.dataset_file import DatasetFile, dump_dataset
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import ZARR_DIR, add, become, image
from tests.unit.dataset.runs import compute, make, names, step, unchanged

A, B = f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"


def put_in(store: DatasetStore, *images: Image) -> None:
    """Import these as the whole image list."""
    store.import_dataset(dump_dataset(DatasetFile("plate", ZARR_DIR, list(images))), replace=True)


def projected(name: str) -> Image:
    return replace(image(f"{name}_mip"), origin=f"{ZARR_DIR}/{name}")


def project(store: DatasetStore, run_id: str = "monday") -> None:
    """A step that makes a projection of each image."""
    done = [ImageStatus(url, "done", fingerprint="level 2") for url in (A, B)]
    made = become(image("a"), image("b"), projected("a"), projected("b"))
    store.merge("plate", step(run_id, 1), made, done)


def test_images_that_are_added_leave_every_result_as_it_is(screen: DatasetStore) -> None:
    compute(screen, step("monday"))

    put_in(screen, *screen.images("plate"), image("c"))

    assert unchanged(screen, step("tuesday")) == "ab"


def test_an_edited_image_whose_entry_is_changed_is_pending(screen: DatasetStore) -> None:
    compute(screen, step("monday"))

    put_in(screen, image("a", well="C05"), image("b"))

    assert unchanged(screen, step("tuesday")) == "b"


def test_an_image_whose_projection_is_dropped_is_pending(screen: DatasetStore) -> None:
    compute(screen, step("monday"))
    project(screen)
    compute(screen, step("monday", 2), ["a_mip", "b_mip"])

    put_in(screen, image("a"), image("b"), projected("b"))

    assert [unchanged(screen, step("tuesday", n)) for n in range(3)] == ["ab", "b", "b_mip"]


def test_what_is_dropped_again_is_pending_again(screen: DatasetStore) -> None:
    for run_id in ("monday", "tuesday"):
        project(screen, run_id)
        put_in(screen, image("a"), image("b"))

        assert unchanged(screen, step("wednesday", 1)) == ""


def test_where_an_image_does_not_say_what_it_was_made_of_all_is_pending(screen: DatasetStore) -> None:
    done = [ImageStatus(url, "done", fingerprint="level 2") for url in (A, B)]
    screen.merge("plate", step("monday"), add("sum"), done)

    put_in(screen, image("a"), image("b"))

    assert unchanged(screen, step("tuesday")) == ""


def test_a_converter_whose_image_is_dropped_is_pending(screen: DatasetStore) -> None:
    done = [ImageStatus(NO_IMAGE, "done", fingerprint="one plate")]
    screen.merge("plate", step("monday"), make("c"), done)
    screen.merge("plate", step("monday", dag_id="other"), make("d"), done)

    put_in(screen, image("a"), image("b"), image("d"))

    assert screen.unchanged("plate", step("tuesday"), "one plate") == set()
    assert screen.unchanged("plate", step("tuesday", dag_id="other"), "one plate") == {NO_IMAGE}


def test_what_a_restore_undid_is_to_be_computed(screen: DatasetStore) -> None:
    compute(screen, step("monday", 0))
    done = [ImageStatus(A, "done", fingerprint="level 2")]
    screen.merge("plate", step("monday", 1), make("a_mask"), done)
    assert unchanged(screen, step("tuesday", 1)) == "a"

    screen.restore("plate", 1)

    assert unchanged(screen, step("tuesday", 1)) == ""
    assert unchanged(screen, step("tuesday", 0)) == "ab"
    assert [row.computed for row in screen.statuses("plate", step=1)] == [False]
    assert names(screen.failed_before("plate", step("tuesday", 1))) == ""
