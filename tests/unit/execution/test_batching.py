from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_airflow.execution.batching import batch_label, label_prefix, plan_batches


def test_there_are_as_many_batches_as_run_at_once() -> None:
    assert plan_batches(24, slots=2) == [12, 12]
    assert plan_batches(240, slots=2) == [120, 120]


def test_batches_are_as_even_as_possible_and_larger_ones_come_first() -> None:
    assert plan_batches(11, slots=4) == [3, 3, 3, 2]


def test_there_is_no_batch_without_units() -> None:
    assert plan_batches(0, slots=4) == []
    assert plan_batches(3, slots=32) == [1, 1, 1]


def test_many_quick_units_do_not_make_many_batches() -> None:
    assert len(plan_batches(5000, slots=2)) <= 8
    assert len(plan_batches(1_000_000, slots=2)) <= 8


def test_long_units_are_cut_into_whole_waves() -> None:
    sizes = plan_batches(96, slots=4, unit_seconds=60)
    assert len(sizes) == 20
    assert max(sizes) * 60 <= 300


def test_units_that_are_long_by_themselves_get_a_batch_each() -> None:
    assert plan_batches(24, slots=2, unit_seconds=3600) == [1] * 24


def test_known_quick_units_stay_together() -> None:
    assert plan_batches(5000, slots=2, unit_seconds=0.003) == [2500, 2500]


def test_images_per_batch_overrides_the_automatic_choice() -> None:
    assert plan_batches(10, slots=2, images_per_batch=1) == [1] * 10
    assert plan_batches(10, slots=2, images_per_batch=4) == [4, 3, 3]


def test_images_per_batch_that_makes_too_many_batches_is_raised_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        sizes = plan_batches(1536, slots=2, images_per_batch=1, max_batches=1024)
    assert len(sizes) == 1024
    assert "using 2 images per batch" in caplog.text


def test_automatic_batches_never_pass_the_limit_and_keep_whole_waves() -> None:
    assert len(plan_batches(100_000, slots=30, unit_seconds=600, max_batches=1024)) == 1020
    assert len(plan_batches(100, slots=50, max_batches=20)) == 20


@given(
    n_units=st.integers(1, 5000),
    slots=st.integers(1, 64),
    images_per_batch=st.none() | st.integers(1, 5000),
    max_batches=st.integers(1, 1024),
    unit_seconds=st.none() | st.floats(0, 1e5),
)
def test_every_unit_is_in_one_batch_and_limits_hold(
    n_units: int,
    slots: int,
    images_per_batch: int | None,
    max_batches: int,
    unit_seconds: float | None,
) -> None:
    sizes = plan_batches(
        n_units,
        slots=slots,
        images_per_batch=images_per_batch,
        max_batches=max_batches,
        unit_seconds=unit_seconds,
    )
    assert sum(sizes) == n_units
    assert len(sizes) <= max_batches
    assert max(sizes) - min(sizes) <= 1
    if images_per_batch is not None and -(-n_units // images_per_batch) <= max_batches:
        assert max(sizes) <= images_per_batch


PLATE = ["/d/plate.zarr/B/03/0", "/d/plate.zarr/B/04/0"]


def test_labels_leave_out_the_plate() -> None:
    prefix = label_prefix(PLATE, "/d")
    assert batch_label(PLATE[:1], prefix) == "B/03/0"
    assert batch_label(PLATE, prefix) == "B/03/0 … B/04/0 (2)"


def test_labels_keep_the_plate_where_there_are_two() -> None:
    urls = ["/d/a.zarr/B/03/0", "/d/b.zarr/B/03/0"]
    assert batch_label(urls, label_prefix(urls, "/d")) == "a.zarr/B/03/0 … b.zarr/B/03/0 (2)"


def test_images_that_are_no_plate_are_labelled_by_their_name() -> None:
    urls = ["/d/x/a.zarr", "/d/x/b.zarr"]
    assert batch_label(urls, label_prefix(urls, "/d")) == "a … b (2)"
    assert batch_label(urls[:1], label_prefix(urls[:1], "/d")) == "a"


def test_labels_of_object_store_urls() -> None:
    urls = ["s3://bucket/d/p.zarr/A/1/0", "s3://bucket/d/p.zarr/A/2/0"]
    assert batch_label(urls, label_prefix(urls, "s3://bucket/d")) == "A/1/0 … A/2/0 (2)"


def test_an_image_that_is_processed_several_times_is_counted() -> None:
    assert batch_label(PLATE[:1] * 3, "/d/plate.zarr") == "B/03/0 (3)"


def test_labels_stay_short_and_printable() -> None:
    label = batch_label(["/d/" + "x" * 500, "/d/a\nb"], "/d")
    assert len(label) < 200
    assert "\n" not in label


def test_no_images_have_no_label() -> None:
    assert batch_label([], label_prefix([], "/d")) == ""
