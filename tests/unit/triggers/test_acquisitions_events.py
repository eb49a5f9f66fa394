from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset

from fractal_airflow.exceptions import DatasetError
from fractal_airflow.triggers.acquisitions_events import acquisitions_of_run, claim, run_id_of

PLATES = Asset("plates")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PLATE = {"id": "1a", "folder": "/a/plate 1", "name": "plate 1", "completed_at": "2026-11-21T11:00:00+00:00"}
SAME_NAME = {**PLATE, "id": "2b", "folder": "/b/plate 1"}


class Events(list[Any]):
    """The events of an asset, as a task may ask for them."""

    def after(self, time: str) -> Events:
        return Events(event for event in self if event.timestamp >= datetime.fromisoformat(time))


def event(number: int, time: datetime) -> Any:
    payload = {"id": str(number), "name": f"plate_{number}"}
    return SimpleNamespace(timestamp=time, extra={"from_trigger": True, "payload": payload})


def names(triggering: list[Any], all_events: list[Any]) -> list[str]:
    context = {
        "triggering_asset_events": {PLATES: triggering} if triggering else {},
        "inlet_events": {PLATES: Events(all_events)},
    }
    return [each["name"] for each in acquisitions_of_run(PLATES, context)]


def test_a_run_takes_what_came_right_after_the_event_that_started_it() -> None:
    events = [event(number, NOON + timedelta(seconds=number)) for number in range(4)]

    assert names(events[1:2], events) == ["plate_1", "plate_2", "plate_3"]


def test_an_event_that_is_there_twice_is_one_acquisition() -> None:
    again = event(1, NOON + timedelta(minutes=1))

    assert names([event(1, NOON)], [event(1, NOON), again]) == ["plate_1"]


def test_a_run_by_hand_takes_the_events_of_the_last_days() -> None:
    now = datetime.now(UTC)

    assert names([], [event(1, now - timedelta(days=30)), event(2, now - timedelta(days=1))]) == ["plate_2"]


def test_events_that_are_no_triggers_are_left_out() -> None:
    by_hand = SimpleNamespace(timestamp=NOON, extra={})

    assert names([event(1, NOON)], [by_hand]) == ["plate_1"]


@pytest.mark.parametrize("name", ["plate_1", 'it\'s "é"\n板', "x" * 255])
def test_a_run_id_is_one_that_airflow_takes(name: str) -> None:
    run_id = run_id_of({**PLATE, "name": name})

    assert re.fullmatch(r"[A-Za-z0-9_.~:+-]{1,250}", run_id)
    assert run_id != run_id_of({**SAME_NAME, "name": name})


class TestClaim:
    def test_a_place_is_given_once_and_to_the_same_one_again(self, tmp_path: Path) -> None:
        claim(tmp_path / "zarr", PLATE)
        (tmp_path / "zarr" / "plate.zarr").mkdir()
        claim(tmp_path / "zarr", PLATE)

        note = tmp_path / "zarr/.fractal_airflow/acquisition.json"
        assert json.loads(note.read_text(encoding="utf-8")) == PLATE

    def test_another_one_of_the_same_name_is_refused_and_both_are_named(self, tmp_path: Path) -> None:
        claim(tmp_path / "zarr", PLATE)

        with pytest.raises(DatasetError, match="Two acquisitions want") as refused:
            claim(tmp_path / "zarr", SAME_NAME)

        assert "/a/plate 1" in str(refused.value)
        assert "/b/plate 1" in str(refused.value)
        claim(tmp_path / "zarr", PLATE)

    def test_data_of_unknown_origin_is_not_written_over(self, tmp_path: Path) -> None:
        (tmp_path / "plate.zarr").mkdir()

        with pytest.raises(DatasetError, match="there is data in it already"):
            claim(tmp_path, PLATE)

        assert [each.name for each in tmp_path.iterdir()] == ["plate.zarr"]

    def test_a_note_that_was_not_written_to_its_end_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".fractal_airflow").mkdir()
        (tmp_path / ".fractal_airflow" / "acquisition.json").touch()

        with pytest.raises(DatasetError, match=r"acquisition\.json does not say whose .* remove that file"):
            claim(tmp_path, PLATE)
