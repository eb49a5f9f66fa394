from __future__ import annotations

from datetime import UTC, datetime

from fractal_airflow.dataset import NO_IMAGE
from fractal_airflow.execution.units import Outcome, UnitError, dump_outcomes
from fractal_airflow.operators.step_units import UnitEnd, image_statuses, mapped_units, whole_list_unit
from fractal_airflow.operators.xcoms import Batch, Unit

BATCHES = [
    Batch(index=0, label="a … b", units=[Unit(zarr_url="/a"), Unit(zarr_url="/b")]),
    Batch(index=1, label="c", units=[Unit(zarr_url="/c")]),
]
DONE = Outcome("done", output={"image_list_removals": ["/x"]}, seconds=2.0, started_at=0.0)
FAILED = Outcome("failed", error=UnitError("task", "exit code 1"))


def nothing_to_read(folder: str, count: int) -> list[Outcome]:
    raise AssertionError(f"{folder} is not needed")


def xcom(index: int, *outcomes: Outcome) -> dict[str, object]:
    return {"index": index, **dump_outcomes(outcomes, f"/runs/{index}")}


class TestMappedUnits:
    def test_outcomes_come_in_the_order_of_the_batches(self) -> None:
        ends = mapped_units(BATCHES, [xcom(1, DONE), xcom(0, DONE, FAILED)], nothing_to_read)

        assert [(end.zarr_url, end.outcome.status, end.map_index) for end in ends] == [
            ("/a", "done", 0),
            ("/b", "failed", 0),
            ("/c", "done", 1),
        ]
        assert ends[2].outcome.log == "/runs/1/0-log.txt"

    def test_what_the_history_keeps_of_a_unit_comes_along(self) -> None:
        warned = Outcome("done", warnings=("WARNING: dark",))

        ends = mapped_units(BATCHES[1:], [{**xcom(1, warned), "try": 2}], nothing_to_read)

        (status,) = image_statuses(["/c"], ends, "0123")
        assert (status.try_number, status.warnings, status.map_index) == (2, ("WARNING: dark",), 1)

    def test_units_of_an_instance_without_a_result_are_lost(self) -> None:
        ends = mapped_units(BATCHES, [None, xcom(1, DONE)], nothing_to_read)

        assert [end.outcome.status for end in ends] == ["failed", "failed", "done"]
        assert ends[0].outcome.error is not None
        assert ends[0].outcome.error.kind == "job"
        assert "see that instance's log" in ends[0].outcome.error.message

    def test_a_large_result_is_read_from_its_folder(self) -> None:
        large = {"index": 0, "folder": "/runs/0", "count": 2}

        ends = mapped_units(BATCHES[:1], [large], lambda folder, count: [DONE] * count)

        assert [end.outcome for end in ends] == [DONE, DONE]

    def test_no_batches_are_no_units(self) -> None:
        assert mapped_units([], [], nothing_to_read) == []


class TestWholeListUnit:
    def test_one_command_stands_for_all_images(self) -> None:
        end = whole_list_unit(["/a", "/b"], xcom(0, DONE), nothing_to_read)

        result = end.result()
        assert (end.zarr_url, result.zarr_url, result.failed) == (None, None, False)
        assert result.output is not None
        assert result.output.image_list_removals == ["/x"]

    def test_without_a_result_it_is_lost(self) -> None:
        assert whole_list_unit(["/a"], None, nothing_to_read).result().failed


class TestImageStatuses:
    def test_an_image_has_what_became_of_its_own_unit(self) -> None:
        ends = mapped_units(BATCHES, [xcom(0, DONE, FAILED), xcom(1, DONE)], nothing_to_read)

        a, b, _ = image_statuses(["/a", "/b", "/c"], ends, "f00d")

        assert (a.status, a.map_index, a.log, a.seconds, a.error) == (
            "done",
            0,
            "/runs/0/0-log.txt",
            2.0,
            None,
        )
        assert a.started_at == datetime(1970, 1, 1, tzinfo=UTC)
        assert (b.status, b.error, b.fingerprint) == ("failed", "exit code 1", "f00d")

    def test_an_image_without_a_unit_fails_with_the_first_that_failed(self) -> None:
        ends = [UnitEnd(["/a_mip"], False, DONE), UnitEnd(["/b_mip"], False, FAILED)]

        statuses = image_statuses(["/a", "/b"], ends, "")

        assert [(each.status, each.error, each.log) for each in statuses] == [
            ("failed", "exit code 1", None)
        ] * 2

    def test_an_error_of_merging_is_one_of_every_image(self) -> None:
        ends = mapped_units(BATCHES[:1], [xcom(0, DONE, FAILED)], nothing_to_read)

        statuses = image_statuses(["/a", "/b"], ends, "", "updated twice")

        assert [(each.status, each.error) for each in statuses] == [
            ("failed", "updated twice"),
            ("failed", "exit code 1"),
        ]

    def test_what_no_failed_unit_of_a_compound_task_is_about_stands(self) -> None:
        ends = [
            UnitEnd(["/a_mip"], False, DONE, 0, {"origin": "/a"}),
            UnitEnd(["/b_mip"], False, FAILED, 1, {"origin": "/b"}),
        ]

        a, b = image_statuses(["/a", "/b"], ends, "")

        assert (a.status, a.computed, a.seconds) == ("failed", True, 2.0)
        assert "what was made of it stands" in (a.error or "")
        assert (b.status, b.computed, b.map_index) == ("failed", False, 1)

    def test_nothing_stands_after_an_error_of_merging_or_of_the_whole_list(self) -> None:
        ends = mapped_units(BATCHES[:1], [xcom(0, DONE, DONE)], nothing_to_read)
        whole = [whole_list_unit(["/a", "/b"], None, nothing_to_read)]

        assert not any(each.computed for each in image_statuses(["/a", "/b"], ends, "", "updated twice"))
        assert not any(each.computed for each in image_statuses(["/a", "/b"], whole, ""))

    def test_a_converter_has_the_status_of_no_image(self) -> None:
        (status,) = image_statuses([NO_IMAGE], [UnitEnd(["/new"], False, DONE, 0)], "f00d")
        (failed,) = image_statuses(
            [NO_IMAGE], [UnitEnd(["/x"], False, DONE, 0), UnitEnd(["/y"], False, FAILED, 3)], "f00d"
        )

        assert (status.zarr_url, status.status, status.computed, status.seconds) == ("", "done", True, 2.0)
        assert (failed.status, failed.computed, failed.map_index) == ("failed", False, 3)
