"""The results file of a batch, as the runner writes it and the worker reads it."""

from __future__ import annotations

import json
from pathlib import Path

from fractal_airflow.execution.runner.results import Results, read_results


def test_torn_and_foreign_lines_of_results_are_left_out(tmp_path: Path) -> None:
    lines = [
        b'{"index": 0, "status": "done"}',
        b"\xff\xfe",
        b"[]",
        b'{"status": "done"}',
        b"",
        b'{"index": 1',
    ]
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert read_results(str(path)) == {0: {"index": 0, "status": "done"}}


def test_results_of_a_torn_file_start_on_a_line_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"index": 0, "sta')
    Results(str(path)).add(1, {})
    line = json.loads(path.read_bytes().splitlines()[1])
    assert (line["index"], line["status"]) == (1, "done")
