"""What an event of a dataset says, and what a run that events started makes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import (
    AssetAliasReferenceAssetEventDagRun,
    AssetReferenceAssetEventDagRun,
)
from airflow.sdk.execution_time.comms import AssetEventDagRunReferenceResult
from airflow.sdk.execution_time.context import OutletEventAccessors, TriggeringAssetEventsAccessor

from fractal_airflow.assets import DATASETS, FractalDataset
from fractal_airflow.dataset.records import Merged
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.operators.events import (
    LISTED_IMAGES,
    announce,
    event_extra,
    event_ranges,
    started_by_itself,
)


def merged(*added: str, since: int = 4, merge: int = 5) -> Merged:
    return Merged(version=7, added=list(added), updated=["/z/u"], removed=[], merge=merge, since=since)


def context(*events: AssetEventDagRunReferenceResult, dag_id: str = "consumer") -> Any:
    """What a task of a run sees that these events started."""
    return {
        "ti": SimpleNamespace(dag_id=dag_id, run_id="r1"),
        "outlet_events": OutletEventAccessors(),
        "triggering_asset_events": TriggeringAssetEventsAccessor.build(events),
    }


def event(
    name: str = "raw", dag_id: str | None = "producer", **extra: Any
) -> AssetEventDagRunReferenceResult:
    asset = FractalDataset(name).asset
    return AssetEventDagRunReferenceResult(
        asset=AssetReferenceAssetEventDagRun(name=asset.name, uri=asset.uri, extra={}),
        extra=extra,
        source_task_id="0_measure.merge" if dag_id else None,
        source_dag_id=dag_id,
        source_run_id="r0",
        source_map_index=-1,
        source_aliases=[AssetAliasReferenceAssetEventDagRun(name=DATASETS.name)],
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )


def announced(since: int, *, name: str = "raw", by: tuple[str, ...] = ("producer",)) -> Any:
    return event(name, by[-1], since=since, merge=since + 1, dag_ids=sorted(by))


def emitted(context: Any) -> list[Any]:
    return list(context["outlet_events"][DATASETS].asset_alias_events)


class TestAnnouncing:
    def test_an_event_tells_what_a_merge_changed(self) -> None:
        of_run = context(dag_id="convert")

        announce(of_run, "raw", merged("/z/a", "/z/b"), "Convert Plate", 0)

        (told,) = emitted(of_run)
        assert told.dest_asset_key.uri == FractalDataset("raw").uri
        assert told.dest_asset_key.name == FractalDataset("raw").asset.name
        assert told.extra == {
            "dataset": "raw",
            "version": 7,
            "since": 4,
            "merge": 5,
            "step": 0,
            "step_name": "Convert Plate",
            "dag_id": "convert",
            "run_id": "r1",
            "dag_ids": ["convert"],
            "counts": {"added": 2, "updated": 1, "removed": 0},
            "added": ["/z/a", "/z/b"],
            "updated": ["/z/u"],
            "removed": [],
        }
        json.dumps(told.extra)

    def test_many_images_are_counted_only(self) -> None:
        def extra(count: int) -> dict[str, Any]:
            return event_extra(
                "raw", merged(*(f"/z/{n}" for n in range(count - 1))), "Convert", 0, dag_id="d", run_id="r"
            )

        assert len(extra(LISTED_IMAGES)["added"]) == LISTED_IMAGES - 1
        over = extra(LISTED_IMAGES + 1)
        assert over["counts"]["added"] == LISTED_IMAGES
        assert not {"added", "updated", "removed"} & set(over)

    def test_an_event_names_the_dags_that_led_to_it(self) -> None:
        of_run = context(
            announced(0, by=("convert", "correct")), announced(3, by=("import",)), dag_id="measure"
        )

        announce(of_run, "raw", merged(), "Measure", 0)

        assert emitted(of_run)[0].extra["dag_ids"] == ["convert", "correct", "import", "measure"]

    @pytest.mark.parametrize("name", ["x" * 1600, "\udcff"])
    def test_a_name_that_airflow_cannot_have_fails_no_merge(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        of_run = context()

        announce(of_run, name, merged(), "Measure", 0)

        assert not emitted(of_run)
        assert "Airflow cannot have an event of it" in caplog.text


class TestEventRanges:
    def test_events_are_what_has_changed_since_the_first_of_them(self) -> None:
        assert event_ranges(context(announced(6), announced(3), announced(5)), "raw", 9) == [[3, 9]]

    def test_other_assets_of_the_schedule_tell_nothing(self) -> None:
        assert event_ranges(context(announced(6, name="other")), "raw", 9) == []
        assert event_ranges(context(announced(1, name="other"), announced(6)), "raw", 9) == [[6, 9]]

    def test_what_the_dag_itself_has_led_to_counts_for_nothing(self) -> None:
        own = announced(1, by=("consumer",))
        of_another_that_it_started = announced(2, by=("producer", "consumer", "reviewer"))

        assert event_ranges(context(own, of_another_that_it_started), "raw", 9) == []
        assert event_ranges(context(own, announced(7)), "raw", 9) == [[7, 9]]

    def test_a_run_that_no_event_started_is_refused(self) -> None:
        with pytest.raises(WorkflowError, match=r"no event started this run: .*images='pending'"):
            event_ranges(context(), "raw", 9)

    @pytest.mark.parametrize(
        ("dag_id", "by"), [(None, "made by hand"), ("etl", r"made by task 0_measure.merge of DAG etl")]
    )
    def test_an_event_that_does_not_say_what_changed_is_refused(self, dag_id: str | None, by: str) -> None:
        with pytest.raises(WorkflowError, match=rf"{by}, does not say what changed.*images='pending'"):
            event_ranges(context(announced(2), event(dag_id=dag_id, from_rest_api=True)), "raw", 9)


def test_a_run_is_started_by_itself_where_all_its_events_are_of_its_own_making() -> None:
    own = announced(1, by=("consumer",))

    assert started_by_itself(context(own))
    assert not started_by_itself(context(own, announced(2)))
    assert not started_by_itself(context())
