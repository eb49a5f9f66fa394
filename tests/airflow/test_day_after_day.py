"""Running a workflow again and again: only what is new, only what failed, and on in spite of failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fractal_airflow.dataset import ImageStatus, StepRun
from fractal_airflow.fractal import Image
from tests.services.airflow import AirflowHome

PENDING = {"images": "pending"}
WELLS = ("B/03", "B/04", "C/03")


def projected(airflow: AirflowHome, *wells: str) -> list[int]:
    """How often the projection of each well was worked on: made, and measured."""
    return [_lines(Path(airflow.url(well) + "_mip", "runs.txt")) for well in wells]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def measure(**arguments: Any) -> dict[str, Any]:
    return {"name": "Measure", "args_parallel": arguments}


class TestPending:
    """``images=pending``: what is not done yet, or not as it is now."""

    def test_a_second_run_with_nothing_new_does_nothing_and_is_green(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag("plate", {"name": "Make Plate"}, {"name": "Project"}, measure())
        airflow.test_dag("plate", PENDING)
        before = airflow.store.snapshot("plate")

        again = airflow.test_dag("plate", PENDING)

        assert again.state == "success", again.log
        assert again.states.pop(("report", -1)) == "success"
        assert again.states.pop(("0_make_plate.select", -1)) == "success"
        assert set(again.states.values()) == {"skipped"}
        assert projected(airflow, "B/03", "B/04") == [2, 2]
        assert airflow.store.snapshot("plate") == before

    def test_a_new_image_is_computed_at_every_step_and_no_other_is(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03", "B/04", is_3D=True)
        airflow.write_fractal_dag("plate", {"name": "Project"}, measure())
        airflow.test_dag("plate", PENDING)
        airflow.add_images("C/03", is_3D=True)

        run = airflow.test_dag("plate", PENDING)

        assert run.state == "success", run.log
        assert projected(airflow, *WELLS) == [2, 2, 2]
        assert len(airflow.store.images("plate")) == 6

    def test_a_changed_argument_computes_its_own_step_and_those_that_use_its_images(
        self, airflow: AirflowHome
    ) -> None:
        airflow.add_images(*WELLS[:2])
        airflow.write_fractal_dag("plate", measure(), {"name": "Summarise", "args_non_parallel": {}})
        airflow.test_dag("plate", PENDING)
        airflow.write_fractal_dag("plate", measure(threshold=5), {"name": "Summarise"})

        run = airflow.test_dag("plate", PENDING)

        assert run.state == "success", run.log
        assert airflow.measured(*WELLS[:2]) == [2, 2]
        assert run.state_of("1_summarise.run") == "success"

    def test_what_a_unit_edits_without_a_word_is_computed_again_too(self, airflow: AirflowHome) -> None:
        first, _ = airflow.add_images(*WELLS[:2])
        said = {"output_for": {"B/03/0": {"image_list_updates": [{"zarr_url": first}]}}}
        airflow.write_fractal_dag("plate", measure(**said), {"name": "Measure", "alias": "Again"})
        airflow.test_dag("plate", PENDING)
        airflow.write_fractal_dag(
            "plate", measure(threshold=5, **said), {"name": "Measure", "alias": "Again"}
        )

        airflow.test_dag("plate", PENDING)

        assert airflow.measured(*WELLS[:2]) == [4, 4]

    def test_steps_before_the_one_that_has_work_are_skipped(self, airflow: AirflowHome) -> None:
        airflow.add_images(*WELLS, is_3D=True)
        airflow.write_fractal_dag("plate", {"name": "Project"}, measure())
        airflow.test_dag("plate", PENDING)
        airflow.write_fractal_dag("plate", {"name": "Project"}, measure(threshold=5))

        run = airflow.test_dag("plate", PENDING)

        assert run.state == "success", run.log
        assert run.state_of("0_project.select") == "skipped"
        assert projected(airflow, *WELLS) == [3, 3, 3]
        assert airflow.measured(*WELLS) == [0, 0, 0]

    def test_what_failed_is_pending_and_what_was_made_of_the_others_stands(
        self, airflow: AirflowHome
    ) -> None:
        airflow.add_images(*WELLS, is_3D=True)
        mended = airflow.home / "mended"
        broken = {"fail_for": ["B/03/0_mip"], "fail_until": str(mended)}
        airflow.write_fractal_dag(
            "plate", {"name": "Project", "args_parallel": broken}, measure(), on_failure="continue"
        )
        first = airflow.test_dag("plate", PENDING)
        assert (first.state, projected(airflow, *WELLS)) == ("failed", [1, 2, 2])
        assert "1 image failed in 1 step" in first.log
        assert "2 more of its images count as failed in the history" in first.log
        mended.touch()

        second = airflow.test_dag("plate", PENDING)

        assert second.state == "success", second.log
        assert second.labels_of("0_project.run") == ["B/03/0_mip"]
        assert projected(airflow, *WELLS) == [3, 2, 2]

    def test_a_converter_is_pending_by_its_arguments(self, airflow: AirflowHome) -> None:
        airflow.write_fractal_dag("plate", {"name": "Make Plate", "args_non_parallel": {"wells": ["B/03"]}})
        airflow.test_dag("plate", PENDING)
        again = airflow.test_dag("plate", PENDING)
        wells = ["B/03", "C/03"]
        airflow.write_fractal_dag("plate", {"name": "Make Plate", "args_non_parallel": {"wells": wells}})

        changed = airflow.test_dag("plate", PENDING)

        assert again.state_of("0_make_plate.run") == "skipped"
        assert changed.state_of("0_make_plate.run") == "success"
        assert len(airflow.store.images("plate")) == 2

    def test_images_that_a_task_needs_together_come_together(self, airflow: AirflowHome) -> None:
        airflow.add_images(*WELLS)
        options = {"together": {"Measure": ["plate"]}}
        airflow.write_fractal_dag("plate", measure(), **options)
        airflow.test_dag("plate", PENDING)
        airflow.add_images("D/05")

        airflow.test_dag("plate", PENDING)

        assert airflow.measured(*WELLS, "D/05") == [2, 2, 2, 1]

    def test_a_cleared_step_selects_the_same_again(self, airflow: AirflowHome) -> None:
        airflow.add_images(*WELLS)
        airflow.write_fractal_dag("plate", measure())
        run = airflow.test_dag("plate", PENDING)
        step_run = StepRun("plate", run.run_id, 0, "fake-tasks/Measure")
        (record, *_) = airflow.store.statuses("plate")

        assert airflow.store.unchanged("plate", step_run, record.fingerprint or "") == set()


class TestContinue:
    """``on_failure=continue``: the images that failed are left out, and the report is red."""

    def test_the_others_go_on_through_all_steps(self, airflow: AirflowHome) -> None:
        airflow.add_images(*WELLS)
        airflow.write_fractal_dag(
            "plate",
            measure(fail_for=["B/04/0"]),
            {"name": "Measure", "alias": "Again"},
            {"name": "Summarise", "args_non_parallel": {"file": "all.json"}},
            on_failure="continue",
        )

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert run.state_of("0_measure.merge") == run.state_of("1_again.merge") == "success"
        assert run.state_of("report") == "failed"
        assert airflow.measured(*WELLS) == [2, 1, 2]
        assert airflow.url("B/04") not in Path(airflow.data, "all.json").read_text(encoding="utf-8")
        assert f"{airflow.url('B/04')} is out of focus" in run.log

    def test_a_run_of_those_that_failed_takes_them_through_the_later_steps(
        self, airflow: AirflowHome
    ) -> None:
        airflow.add_images(*WELLS)
        mended = airflow.home / "mended"
        airflow.write_fractal_dag(
            "plate",
            measure(fail_for=["B/04/0"], fail_until=str(mended)),
            {"name": "Measure", "alias": "Again"},
        )
        airflow.test_dag("plate", {"on_failure": "continue"})
        mended.touch()

        run = airflow.test_dag("plate", {"images": "failed"})

        assert run.state == "success", run.log
        assert airflow.measured(*WELLS) == [2, 3, 2]

    def test_nothing_left_is_no_error_of_an_empty_list(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag(
            "plate",
            measure(fail_for=["B/03/0"]),
            {"name": "Measure", "alias": "Again"},
            on_failure="continue",
        )

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert run.state_of("1_again.select") == "skipped"
        assert run.state_of("1_again.merge") == "success"

    def test_what_an_earlier_run_made_of_a_failed_image_is_left_out_too(self, airflow: AirflowHome) -> None:
        airflow.add_images(*WELLS, is_3D=True)
        airflow.write_fractal_dag("plate", {"name": "Project"}, measure())
        airflow.test_dag("plate")
        airflow.write_fractal_dag(
            "plate", {"name": "Project", "args_parallel": {"fail_for": ["B/03/0_mip"]}}, measure()
        )

        airflow.test_dag("plate", {"on_failure": "continue"})

        assert projected(airflow, *WELLS) == [3, 4, 4]


class TestSeveralRunsAtOnce:
    """Two runs on one dataset: on different images, and on the same."""

    def test_the_later_merge_of_the_same_image_fails_and_changes_nothing(self, airflow: AirflowHome) -> None:
        _, second = airflow.add_images("B/03", "B/04")
        go_on = airflow.home / "go_on"
        airflow.write_fractal_dag("plate", measure(seconds=60, seconds_until=str(go_on)))
        with ThreadPoolExecutor() as threads:
            run = threads.submit(airflow.test_dag, "plate")
            wait_for(lambda: airflow.measured("B/03") == [1])
            merge_as_another_run(airflow, second)
            between = airflow.store.snapshot("plate")
            go_on.touch()
            ended = run.result()

        assert ended.state == "failed"
        assert "DatasetConflictError" in ended.log
        assert second in ended.log.partition("DatasetConflictError")[2]
        assert "by_hand" in ended.log
        assert airflow.store.snapshot("plate").images == between.images
        assert airflow.statuses(ended.run_id) == {"B/03/0": "failed", "B/04/0": "failed"}
        again = airflow.test_dag("plate", PENDING)
        assert again.state == "success", again.log
        assert airflow.measured("B/03", "B/04") == [2, 2]

    def test_a_dataset_that_was_made_anew_meanwhile_gets_nothing_of_an_old_run(
        self, airflow: AirflowHome
    ) -> None:
        (url,) = airflow.add_images("B/03")
        go_on = airflow.home / "go_on"
        airflow.write_fractal_dag("plate", measure(seconds=60, seconds_until=str(go_on)))
        with ThreadPoolExecutor() as threads:
            run = threads.submit(airflow.test_dag, "plate")
            wait_for(lambda: airflow.measured("B/03") == [1])
            airflow.store.delete("plate")
            airflow.store.create("plate", str(airflow.data), [Image(url)])
            go_on.touch()
            ended = run.result()

        assert ended.state == "failed"
        assert "was deleted, and made anew, while this run worked on it" in ended.log
        assert airflow.store.statuses("plate") == []

    def test_runs_that_touch_different_images_both_end_well(self, airflow: AirflowHome) -> None:
        _, second = airflow.add_images("B/03", "B/04")
        go_on = airflow.home / "go_on"
        airflow.write_fractal_dag(
            "plate",
            measure(seconds=60, seconds_until=str(go_on)),
            attribute_filters={"well": ["B03"]},
        )
        with ThreadPoolExecutor() as threads:
            run = threads.submit(airflow.test_dag, "plate")
            wait_for(lambda: airflow.measured("B/03") == [1])
            merge_as_another_run(airflow, second)
            go_on.touch()
            ended = run.result()

        assert ended.state == "success", ended.log


def merge_as_another_run(airflow: AirflowHome, url: str) -> None:
    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        return [
            Image(each.zarr_url, each.origin, {**each.attributes, "seen": True}, each.types)
            if each.zarr_url == url
            else each
            for each in images
        ]

    step = StepRun("by_hand", "another_run", 0, "fake-tasks/Measure")
    airflow.store.merge("plate", step, change, [ImageStatus(url, "done")])


def wait_for(condition: Any) -> None:
    end = monotonic() + 60
    while not condition():
        assert monotonic() < end
        sleep(0.05)
