"""Paths: their one normal form, and what lies below what."""

from __future__ import annotations

import pytest

from fractal_airflow.fractal.urls import is_below, normalise_url


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("/data/plate.zarr/B/03/0", "/data/plate.zarr/B/03/0"),
        ("/data/plate.zarr/", "/data/plate.zarr"),
        ("/data//plate.zarr///B//", "/data/plate.zarr/B"),
        ("//data", "/data"),
        ("/data/./plate.zarr/.", "/data/plate.zarr"),
        ("/", "/"),
        ("///", "/"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3://bucket/key//plate.zarr/./0/", "s3://bucket/key/plate.zarr/0"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
    ],
)
def test_a_path_has_one_normal_form(url: str, normal: str) -> None:
    assert normalise_url(url) == normal
    assert normalise_url(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "/data/.hidden/..two/three../...",
        '/my data/it\'s "the" $(plate) `x`; a\\b',
        "/data/first line\nsecond line",
        "/données/プレート.zarr",
        "/data/plate.zarr?x=1#y",
        "s3://bucket/a b/ü",
    ],
)
def test_odd_letters_are_left_alone(url: str) -> None:
    assert normalise_url(url) == url


@pytest.mark.parametrize("url", ["/data/../etc", "/..", "/data/..", "s3://bucket/../other", "s3://../key"])
def test_two_dots_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"has '\.\.' in it"):
        normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "plate.zarr",
        "./plate.zarr",
        "~/plate.zarr",
        "C:\\data",
        "file:///data",
        "https://host/x",
        "S3://b/k",
    ],
)
def test_what_is_neither_absolute_nor_s3_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="neither an absolute path"):
        normalise_url(url)


@pytest.mark.parametrize("url", ["s3://", "s3:///", "s3:///key", "s3://./key"])
def test_s3_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="names no S3 bucket"):
        normalise_url(url)


@pytest.mark.parametrize("url", [None, 1, True, ["/data"], b"/data"])
def test_what_is_no_text_is_refused(url: object) -> None:
    with pytest.raises(ValueError, match="must be a text"):
        normalise_url(url)


def test_a_null_character_is_refused() -> None:
    with pytest.raises(ValueError, match="null character"):
        normalise_url("/data/a\0b")


@pytest.mark.parametrize(
    ("url", "folder", "below"),
    [
        ("/data/zarr/x", "/data/zarr", True),
        ("/data/zarr/x/y", "/data/zarr", True),
        ("/data/zarr_other/x", "/data/zarr", False),
        ("/data/zarr", "/data/zarr", False),
        ("/data", "/data/zarr", False),
        ("/data", "/", True),
        ("/", "/", False),
        ("s3://bucket/zarr/x", "s3://bucket/zarr", True),
        ("s3://bucket/zarr", "s3://bucket", True),
        ("s3://bucket2/zarr", "s3://bucket", False),
        ("s3://bucket", "s3://bucket", False),
        ("s3://bucket/x", "/", False),
        ("/bucket/x", "s3://bucket", False),
    ],
)
def test_below_means_strictly_below_as_a_path(url: str, folder: str, below: bool) -> None:
    assert is_below(url, folder) is below
