from __future__ import annotations

import json
from typing import Any

import pytest

from fractal_airflow.execution.units import (
    Outcome,
    UnitError,
    dump_outcomes,
    load_outcomes,
    outcome_from_result,
    rejected,
)

FOLDER = "/work/run/0000-abc/1"


def outcomes(count: int, **changes: Any) -> list[Outcome]:
    fields: dict[str, Any] = {"seconds": 0.25, "cpu_seconds": 0.2, "max_rss_mb": 14.5}
    fields |= {"host": "node1", "started_at": 1795250623.674, **changes}
    return [Outcome("done", log=f"{FOLDER}/{index}-log.txt", **fields) for index in range(count)]


def never(folder: str, count: int) -> list[Outcome]:
    raise AssertionError("not needed")


def test_outcomes_come_back_as_they_were() -> None:
    update = {"image_list_updates": [{"zarr_url": "/d/ä"}]}
    failed = Outcome("failed", None, UnitError("task", "exit code 1"), f"{FOLDER}/2-log.txt")
    before = [*outcomes(1, warnings=("WARNING: dark",)), *outcomes(2, output=update)[1:], failed]
    through_json = json.loads(json.dumps(dump_outcomes(before, FOLDER)))
    assert load_outcomes(through_json, read_outcomes=never) == before


def test_what_follows_from_the_batch_takes_no_room() -> None:
    data = dump_outcomes(outcomes(100), FOLDER)
    assert len(json.dumps(data)) < 100 * 100
    assert "log" not in data["outcomes"][0]
    assert "output" not in data["outcomes"][0]
    assert "host" not in data["outcomes"][0]
    assert "warnings" not in data["outcomes"][0]


def test_large_outcomes_are_a_reference_to_their_folder() -> None:
    before = outcomes(100, output={"image_list_removals": ["/d/" + "x" * 5000]})
    data = dump_outcomes(before, FOLDER)
    assert data == {"folder": FOLDER, "count": 100}
    asked = []

    def read(folder: str, count: int) -> list[Outcome]:
        asked.append((folder, count))
        return before

    assert load_outcomes(data, read_outcomes=read) == before
    assert asked == [(FOLDER, 100)]


def test_errors_that_are_in_no_folder_travel_beside_the_reference_to_it() -> None:
    lost = UnitError("node", "its machine failed")
    before = [*outcomes(1, output={"n": "x" * 5000}), Outcome("failed", error=lost)]
    data = json.loads(json.dumps(dump_outcomes(before, FOLDER, limit_bytes=1000)))

    def read(folder: str, count: int) -> list[Outcome]:
        return [before[0], Outcome("failed", error=UnitError("job", "no result"))]

    assert data == {"folder": FOLDER, "count": 2, "errors": {"1": ["node", "its machine failed"]}}
    assert load_outcomes(data, read_outcomes=read)[1].error == lost


def test_an_error_message_carries_the_end_of_the_log_and_where_it_is() -> None:
    line = {
        "index": 3,
        "status": "failed",
        "kind": "task",
        "error": "exit code 2",
        "log_tail": "Traceback\nboom",
    }
    outcome = outcome_from_result(line, FOLDER)
    assert outcome.error == UnitError(
        "task", f"exit code 2\nLast lines of {FOLDER}/3-log.txt:\nTraceback\nboom"
    )


def test_a_good_outcome_that_is_rejected_keeps_what_it_took() -> None:
    (before,) = outcomes(1, output=[1, 2])

    after = rejected(before, "not a dictionary")

    assert (after.status, after.output, after.seconds) == ("failed", None, before.seconds)
    assert after.error == UnitError("output", f"not a dictionary (log: {FOLDER}/0-log.txt)")


@pytest.mark.parametrize("output", [[1, 2], "text", {"image_list_updates": []}, 0, False])
def test_any_output_is_handed_on_for_the_rules_to_judge(output: object) -> None:
    before = [outcome_from_result({"index": 0, "status": "done", "output": output}, FOLDER)]
    assert load_outcomes(dump_outcomes(before, FOLDER), read_outcomes=never) == before
