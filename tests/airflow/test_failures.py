"""Units that fail, outputs that break the rules: what is merged, what is said, what is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.airflow import AirflowHome

RETRIES = {"retries": 1, "retry_delay": 0}


def update(zarr_url: str, **attributes: Any) -> dict[str, Any]:
    return {"image_list_updates": [{"zarr_url": zarr_url, "attributes": attributes}]}


def test_what_succeeded_is_merged_before_the_step_fails(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", "C/03", is_3D=True)
    outputs = {well: update(airflow.url(well), measured=True) for well in ("B/03", "B/04", "C/03")}
    arguments = {
        "fail_for": ["B/04/0"],
        "output_for": {f"{well}/0": output for well, output in outputs.items()},
    }
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": arguments}, {"name": "Summarise"})

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert [image.attributes.get("measured") for image in airflow.store.images("plate")] == [True, None, True]
    assert airflow.statuses() == {"B/03/0": "done", "B/04/0": "failed", "C/03/0": "done"}
    assert "Measure: 1 of 3 units failed. First error" in run.log
    assert f"ValueError: {airflow.url('B/04')} is out of focus" in run.log
    assert run.state_of("0_measure.merge") == "failed"
    assert run.state_of("1_summarise.select") == "upstream_failed"
    (failed,) = [record for record in airflow.store.statuses("plate") if record.status == "failed"]
    assert "exit code 1" in (failed.error or "")


def test_a_retry_runs_only_the_units_that_failed(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", "C/03")
    arguments = {"fail_for": ["B/04/0", "C/03/0"], "fail_times": 1, "kill_for": ["B/04/0"]}
    airflow.write_fractal_dag(
        "plate", {"name": "Measure", "args_parallel": arguments}, default_args=RETRIES, images_per_batch=3
    )

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert run.tries["0_measure.run", 0] == 2
    assert airflow.measured("B/03", "B/04", "C/03") == [1, 2, 2]
    assert set(airflow.statuses().values()) == {"done"}


@pytest.mark.parametrize(("options", "tries"), [({}, 1), ({"retry_failed_tasks": True}, 2)])
def test_a_failing_task_is_tried_again_only_where_its_author_wants_it(
    airflow: AirflowHome, options: dict[str, Any], tries: int
) -> None:
    airflow.add_images("B/03", "B/04")
    arguments = {"fail_for": ["B/04/0"], "fail_times": 1}
    airflow.write_fractal_dag(
        "plate", {"name": "Measure", "args_parallel": arguments}, default_args=RETRIES, **options
    )

    run = airflow.test_dag("plate")

    assert run.state == ("success" if tries > 1 else "failed"), run.log
    assert airflow.measured("B/03", "B/04") == [1, tries]


def test_a_unit_killed_by_a_signal_failed_in_its_job(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04")
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": {"kill_for": ["B/03/0"]}})

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert "JobExecutionError: Measure: 1 of 2 units failed" in run.log
    assert "SIGKILL" in run.log
    assert airflow.statuses() == {"B/03/0": "failed", "B/04/0": "done"}


class TestCompound:
    """A compound task fails in its init half, or in some of its units."""

    def test_units_that_succeeded_are_merged(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03", "B/04", is_3D=True)
        airflow.write_fractal_dag("plate", {"name": "Project", "args_parallel": {"fail_for": ["B/03/0_mip"]}})

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert "Project: 1 of 2 units failed" in run.log
        assert [image.zarr_url for image in airflow.store.images("plate")][2:] == [
            airflow.url("B/04") + "_mip"
        ]
        # The units work on new images: no input image has one of its own, and one of them failed.
        assert airflow.statuses() == {"B/03/0": "failed", "B/04/0": "failed"}

    def test_an_init_that_fails_leaves_the_dataset_alone(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03", "B/04", is_3D=True)
        airflow.write_fractal_dag("plate", {"name": "Project", "args_non_parallel": {"fail": True}})
        before = airflow.store.snapshot("plate")

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert run.state_of("0_project.merge") == "failed"
        assert "Project: 1 of 1 units failed. First error: " in run.log
        assert "ValueError: no plane to project" in run.log
        assert airflow.store.snapshot("plate")[:2] == before[:2]
        assert airflow.statuses() == {"B/03/0": "failed", "B/04/0": "failed"}


def test_a_non_parallel_task_that_fails_leaves_the_dataset_alone(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04")
    airflow.write_fractal_dag("plate", {"name": "Summarise", "args_non_parallel": {"fail": True}})
    before = airflow.store.snapshot("plate")

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert "ValueError: nothing to summarise" in run.log
    assert airflow.store.snapshot("plate")[:2] == before[:2]
    assert airflow.statuses() == {"B/03/0": "failed", "B/04/0": "failed"}


BROKEN_OUTPUTS = {
    "not JSON": "{image_list_updates: []",
    "a list": [],
    "unknown keys": {"image_list_updates": [], "images": []},
    "a relative path": {"image_list_updates": [{"zarr_url": "plate.zarr/B/03/0"}]},
    "a wrong type": {"image_list_updates": [{"zarr_url": "/a", "types": {"is_3D": "yes"}}]},
    "NaN": '{"image_list_updates": [{"zarr_url": "/a", "attributes": {"mean": NaN}}]}',
}


@pytest.mark.parametrize("broken", BROKEN_OUTPUTS.values(), ids=BROKEN_OUTPUTS)
def test_an_output_that_breaks_the_schema_fails_its_unit_alone_and_is_not_tried_again(
    airflow: AirflowHome, broken: Any
) -> None:
    airflow.add_images("B/03", "B/04")
    outputs = {"B/03/0": broken, "B/04/0": update(airflow.url("B/04"), measured=True)}
    airflow.write_fractal_dag(
        "plate",
        {"name": "Measure", "args_parallel": {"output_for": outputs}},
        default_args=RETRIES,
        images_per_batch=2,
    )

    run = airflow.test_dag("plate")

    assert run.state == "failed"
    assert "TaskOutputValidationError: Measure: 1 of 2 units failed" in run.log
    assert run.tries["0_measure.run", 0] == 1
    assert airflow.measured("B/03", "B/04") == [1, 1]
    assert airflow.statuses() == {"B/03/0": "failed", "B/04/0": "done"}
    assert [image.attributes.get("measured") for image in airflow.store.images("plate")] == [None, True]


def test_an_unknown_key_inside_an_update_is_ignored_with_a_warning(airflow: AirflowHome) -> None:
    (url,) = airflow.add_images("B/03")
    output = {"image_list_updates": [{"zarr_url": url, "attributes": {"n": 1}, "colour": "red"}]}
    airflow.write_fractal_dag("plate", {"name": "Measure", "args_parallel": {"output": output}})

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert "Unknown keys ['colour'] are ignored" in run.log


class TestMerging:
    """Outputs that are fine by themselves but not together leave the dataset as it was."""

    def outputs_of(self, airflow: AirflowHome, case: str) -> dict[str, Any]:
        b03, b04 = airflow.url("B/03"), airflow.url("B/04")
        return {
            "the same image updated twice": {"B/03/0": update(b03, n=1), "B/04/0": update(b03, n=2)},
            "an image outside zarr_dir": {"B/03/0": update(f"{airflow.data}_other/x", n=1)},
            "an image updated and removed": {
                "B/03/0": update(b03, n=1),
                "B/04/0": {"image_list_removals": [b03]},
            },
            "a missing image removed": {"B/03/0": {"image_list_removals": [b04 + "_gone"]}},
        }[case]

    @pytest.mark.parametrize(
        ("case", "said"),
        [
            ("the same image updated twice", "is updated twice"),
            ("an image outside zarr_dir", "does not lie below zarr_dir"),
            ("an image updated and removed", "is both updated and removed"),
            ("a missing image removed", "cannot be removed: it is not in the image list"),
        ],
    )
    def test_the_dataset_stays_and_every_unit_counts_as_failed(
        self, airflow: AirflowHome, case: str, said: str
    ) -> None:
        airflow.add_images("B/03", "B/04", "C/03")
        arguments = {"output_for": self.outputs_of(airflow, case)}
        airflow.write_fractal_dag(
            "plate", {"name": "Measure", "args_parallel": arguments}, default_args=RETRIES
        )
        before = airflow.store.snapshot("plate")

        run = airflow.test_dag("plate")

        assert run.state == "failed"
        assert said in run.log
        assert run.state_of("0_measure.run", 0) == "success"
        assert run.tries["0_measure.merge", -1] == 1
        assert airflow.store.snapshot("plate")[:2] == before[:2]
        assert set(airflow.statuses().values()) == {"failed"}
        assert all(said in (record.error or "") for record in airflow.store.statuses("plate"))


def test_removals_take_images_out_of_the_list(airflow: AirflowHome) -> None:
    airflow.add_images("B/03", "B/04", "C/03")
    airflow.write_fractal_dag(
        "plate", {"name": "Summarise", "args_non_parallel": {"remove": ["B/04/0"]}}, {"name": "Measure"}
    )

    run = airflow.test_dag("plate")

    assert run.state == "success", run.log
    assert [image.zarr_url for image in airflow.store.images("plate")] == [
        airflow.url("B/03"),
        airflow.url("C/03"),
    ]
    assert airflow.measured("B/03", "B/04", "C/03") == [1, 0, 1]
