"""The files of a run's provenance: lists of images, and a folder that is there as a whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from fractal_airflow.provenance.folder import write_folder
from fractal_airflow.provenance.images_file import InputImage, input_csv, output_csv

ODD = '/data/a "quoted", name/ü\nwith a break'


def read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_images_keep_their_order_and_their_names() -> None:
    inputs = [InputImage("/data/1", "done", 0.25), InputImage(ODD, "failed")]

    assert read(input_csv(inputs)) == [
        ["zarr_url", "status", "seconds"],
        ["/data/1", "done", "0.250"],
        [ODD, "failed", ""],
    ]
    assert read(output_csv([("/data/1", "edited"), (ODD, "made")])) == [
        ["zarr_url", "change"],
        ["/data/1", "edited"],
        [ODD, "made"],
    ]


class TestFolder:
    """A folder that takes the place of another at once."""

    def test_it_takes_the_place_of_the_one_before(self, tmp_path: Path) -> None:
        folder = tmp_path / "a b" / "run ü"
        write_folder(folder, [("old.txt", b"old"), ("both.txt", b"old")])

        write_folder(folder, [("both.txt", b"new")])

        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"both.txt": b"new"}
        assert list(folder.parent.iterdir()) == [folder]

    def test_it_is_as_it_was_where_the_new_one_fails(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        write_folder(folder, [("report.md", b"old")])

        def files() -> Iterator[tuple[str, bytes]]:
            yield "report.md", b"new"
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            write_folder(folder, files())

        assert (folder / "report.md").read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [folder]

    def test_a_file_in_its_place_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / ".fractal_airflow").touch()

        with pytest.raises(OSError, match=r"\.fractal_airflow"):
            write_folder(tmp_path / ".fractal_airflow" / "run", [("report.md", b"")])
