from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from fractal_airflow.execution.progress import MOST_FAILURES_SHOWN, ResultsFollower, duration, progress_line
from fractal_airflow.execution.run_folder import Attempt


def test_the_line_says_how_many_failed_and_how_long_it_takes() -> None:
    assert progress_line(37, 96, 2, 0, 44.0) == "37/96 units, 2 failed, 1 min 10 s left"


def test_the_last_line_has_no_time_left() -> None:
    assert progress_line(96, 96, 0, 0, 44.0) == "96/96 units"


def test_units_of_an_earlier_try_do_not_make_this_one_look_fast() -> None:
    assert progress_line(91, 100, 0, 90, 10.0) == "91/100 units, 1 min 30 s left"
    assert progress_line(90, 100, 0, 90, 10.0) == "90/100 units"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (7260, "2 h 1 min")]
)
def test_times_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def attempt_with(folder: Path, lines: list[dict[str, object]], count: int) -> Attempt:
    (folder / "results.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    return Attempt(folder, count)


def test_only_whole_lines_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attempt = attempt_with(tmp_path, [], 2)
    follower = ResultsFollower(attempt, logging.getLogger("batch"))
    with caplog.at_level(logging.INFO), (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"index": 0, "status": "done"}\n{"index": 1, "sta')
        file.flush()
        follower.finish()
        file.write('tus": "failed", "kind": "task", "error": "exit code 1"}\n')
        file.flush()
        follower.finish()
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("1/2 units, ")
    assert messages[1].startswith("Unit 1 failed: exit code 1")
    assert messages[2] == "2/2 units, 1 failed"


def test_what_an_earlier_try_did_counts_and_what_failed_in_it_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = [{"index": 0, "status": "done"}, {"index": 1, "status": "failed"}]
    attempt = attempt_with(tmp_path, list(earlier), 3)
    with caplog.at_level(logging.INFO):
        ResultsFollower(attempt, logging.getLogger("batch")).finish()
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 units are done since an earlier try",
        "1/3 units",
    ]


def test_a_thousand_failures_do_not_flood_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attempt = attempt_with(tmp_path, [], 1000)
    follower = ResultsFollower(attempt, logging.getLogger("batch"))
    attempt_with(tmp_path, [{"index": i, "status": "failed", "error": "bad"} for i in range(1000)], 1000)
    with caplog.at_level(logging.INFO):
        follower.finish()
    assert len(caplog.records) == MOST_FAILURES_SHOWN + 2
    assert caplog.records[-1].getMessage() == "1000/1000 units, 1000 failed"
