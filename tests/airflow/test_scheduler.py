"""Workflows under a real scheduler: retries, clearing, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.services.airflow import AirflowHome, make_home
from tests.services.scheduler import RunningAirflow, running_airflow, scheduler_settings


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[RunningAirflow]:
    """An Airflow with scheduler, DAG processor and API server."""
    home = make_home(tmp_path_factory.mktemp("scheduler") / "home", migrated_database, **scheduler_settings())
    with running_airflow(home) as airflow:
        yield airflow


@pytest.fixture
def home(scheduler: RunningAirflow, request: pytest.FixtureRequest) -> AirflowHome:
    """The home of the running Airflow, with image paths of this test's own."""
    home = scheduler.home
    return AirflowHome(home.home, home.settings, data_name=request.node.name)


def test_a_whole_workflow(scheduler: RunningAirflow, home: AirflowHome) -> None:
    home.write_fractal_dag(
        "whole",
        {"name": "Convert Plate", "args_non_parallel": {"wells": ["B/03", "B/04"]}},
        {"name": "Project"},
        {"name": "Measure", "args_parallel": {"threshold": "{{ params.threshold }}"}},
        {"name": "Summarise"},
        dataset="whole",
        params={"threshold": 1},
        images_per_batch=1,
    )

    run_id, state = scheduler.run("whole", {"threshold": 5})

    assert state == "success", scheduler.logs()
    assert home.store.get("whole").image_count == 4
    labels = [
        each["rendered_map_index"]
        for (task, _), each in instances(scheduler, "whole", run_id)
        if task == "2_measure.run"
    ]
    assert labels == ["B/03/0_mip", "B/04/0_mip"]
    assert (home.data / "plate.zarr/B/03/0_mip/runs.txt").read_text().splitlines()[-1].startswith("5 ")
    assert {record.run_id for record in home.store.statuses("whole")} == {run_id}


def test_a_cleared_report_is_made_anew(scheduler: RunningAirflow, home: AirflowHome) -> None:
    _, failing = home.add_images("B/03", "B/04", dataset="reported")
    measure = {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0"]}}
    again = {"name": "Measure", "alias": "Again"}
    home.write_fractal_dag(
        "reported", measure, again, dataset="reported", images_per_batch=1, on_failure="continue"
    )

    run_id, state = scheduler.run("reported")
    first = crate_of(home)
    scheduler.clear("reported", run_id, "report")

    assert state == "failed", scheduler.logs()
    second = crate_of(home)
    assert second["identifier"] == first["identifier"]
    assert second["datePublished"] > first["datePublished"]
    path = f"/dags/reported/dagRuns/{quote(run_id)}/taskInstances/report/xcomEntries/report"
    report = scheduler.call("GET", path)["value"]
    assert f"- `{failing}`: `the task ended with exit code 1: ValueError: " in report
    page = f"{home.settings['AIRFLOW__API__BASE_URL']}/dags/reported/runs/{quote(run_id)}/tasks/0_measure.run"
    assert f"({page}/mapped/1?try_number=1)" in report


def crate_of(home: AirflowHome) -> dict[str, Any]:
    """What the one crate below the home's data says of itself."""
    (folder,) = (home.data / ".fractal_airflow").iterdir()
    graph = json.loads((folder / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    return next(entity for entity in graph if entity["@id"] == "./")


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"attribute_filters": {"well": "B03"}}, "attribute_filters"),
        ({"attribute_filters": {"well": []}}, "attribute_filters"),
        ({"type_filters": {"is_3D": "yes"}}, "type_filters"),
        ({"first_task_index": 2}, "first_task_index"),
        ({"last_task_index": "1"}, "last_task_index"),
        ({"dataset": ""}, "dataset"),
        ({"zarr_dir": 3}, "zarr_dir"),
    ],
)
def test_bad_run_parameters_are_refused_when_a_run_is_triggered(
    scheduler: RunningAirflow, home: AirflowHome, conf: dict[str, Any], said: str
) -> None:
    home.write_fractal_dag("checked", {"name": "Measure"}, {"name": "Measure"})

    with pytest.raises(HTTPError, match=said) as refused:
        scheduler.trigger("checked", conf)

    assert refused.value.code in (400, 422)


def test_a_retry_runs_only_the_units_that_failed(scheduler: RunningAirflow, home: AirflowHome) -> None:
    home.add_images("B/03", "B/04", "C/03", dataset="retried")
    home.write_fractal_dag(
        "retried",
        {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0"], "fail_times": 1}},
        dataset="retried",
        default_args={"retries": 1, "retry_delay": 0},
        retry_failed_tasks=True,
        images_per_batch=3,
    )

    _, state = scheduler.run("retried")

    assert state == "success", scheduler.logs()
    assert home.measured("B/03", "B/04", "C/03") == [1, 2, 1]


def test_a_failed_instance_that_is_cleared_runs_only_what_is_missing(
    scheduler: RunningAirflow, home: AirflowHome
) -> None:
    home.add_images("B/03", "B/04", "C/03", is_3D=True, dataset="mended")
    mended = home.home / "mended"
    home.write_fractal_dag(
        "mended",
        {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0"], "fail_until": str(mended)}},
        {"name": "Project"},
        dataset="mended",
        images_per_batch=3,
    )
    run_id, state = scheduler.run("mended")
    assert state == "failed"
    assert home.measured("B/03", "B/04", "C/03") == [1, 1, 1]
    assert home.statuses(dataset="mended") == {"B/03/0": "done", "B/04/0": "failed", "C/03/0": "done"}

    mended.touch()
    scheduler.clear("mended", run_id, ("0_measure.run", 0))

    assert states(scheduler, "mended", run_id) == {"success"}, scheduler.logs()
    assert home.measured("B/03", "B/04", "C/03") == [1, 2, 1]
    assert home.store.get("mended").image_count == 6
    measured = home.store.statuses("mended", step=0)
    assert {record.status for record in measured} == {"done"}


def test_a_finished_instance_that_is_cleared_runs_from_scratch(
    scheduler: RunningAirflow, home: AirflowHome
) -> None:
    home.add_images("B/03", "B/04", dataset="again")
    home.write_fractal_dag("again", {"name": "Measure"}, dataset="again", images_per_batch=1)
    run_id, _ = scheduler.run("again")

    scheduler.clear("again", run_id, ("0_measure.run", 1))

    assert states(scheduler, "again", run_id) == {"success"}, scheduler.logs()
    assert home.measured("B/03", "B/04") == [1, 2]


def test_a_merge_that_is_cleared_gives_the_same_image_list(
    scheduler: RunningAirflow, home: AirflowHome
) -> None:
    home.add_images("B/03", "B/04", "C/03", is_3D=True, dataset="merged")
    home.write_fractal_dag(
        "merged",
        {"name": "Project"},
        {"name": "Summarise", "args_non_parallel": {"remove": ["B/04/0_mip"]}},
        dataset="merged",
    )
    run_id, state = scheduler.run("merged")
    assert state == "success", scheduler.logs()
    before = home.store.snapshot("merged")

    scheduler.clear("merged", run_id, "1_summarise.merge")

    assert states(scheduler, "merged", run_id) == {"success"}, scheduler.logs()
    assert home.store.snapshot("merged")[:2] == before[:2]


class TestKilling:
    """Nothing that a task instance started outlives it."""

    @pytest.fixture
    def slow(self, scheduler: RunningAirflow, home: AirflowHome) -> Iterator[Path]:
        """A file: as long as it is not there, measuring B/04 takes its time."""
        go_on = home.home / f"go_on_{home.data_name}"
        yield go_on
        go_on.touch()

    def start(
        self, scheduler: RunningAirflow, home: AirflowHome, dag_id: str, slow: Path, **options: Any
    ) -> tuple[str, int]:
        """Start a run and wait for its second unit; return the run and that unit's process."""
        home.add_images("B/03", "B/04", "C/03", dataset=dag_id)
        arguments = {"seconds": 120, "slow_for": ["B/04/0"], "seconds_until": str(slow)}
        home.write_fractal_dag(
            dag_id,
            {"name": "Measure", "args_parallel": arguments},
            dataset=dag_id,
            images_per_batch=3,
            **options,
        )
        run_id = scheduler.trigger(dag_id)
        scheduler.wait("the second unit runs", lambda: home.measured("B/04") == [1])
        line = Path(home.url("B/04"), "runs.txt").read_text().splitlines()[-1]
        return run_id, int(line.split()[-1])

    def test_a_killed_task_process_leaves_no_unit_behind_and_the_retry_goes_on(
        self, scheduler: RunningAirflow, home: AirflowHome, slow: Path
    ) -> None:
        run_id, unit = self.start(
            scheduler, home, "killed", slow, default_args={"retries": 1, "retry_delay": 0}
        )
        family = ancestors(unit)
        runner = max(index for index, pid in enumerate(family) if b"runner.py" in command_line(pid))

        os.kill(family[runner + 1], signal.SIGKILL)

        started_by_it = family[: runner + 1]
        scheduler.wait("no process is left", lambda: not any(is_alive(pid) for pid in started_by_it))
        slow.touch()
        assert scheduler.wait_for_end("killed", run_id) == "success", scheduler.logs()
        assert home.measured("B/03", "B/04", "C/03") == [1, 2, 1]

    def test_marking_a_running_instance_failed_ends_its_units(
        self, scheduler: RunningAirflow, home: AirflowHome, slow: Path
    ) -> None:
        run_id, unit = self.start(scheduler, home, "marked", slow)

        scheduler.mark_failed("marked", run_id, "0_measure.run", 0)

        scheduler.wait("its unit has ended", lambda: not is_alive(unit))
        assert scheduler.wait_for_end("marked", run_id) == "failed"
        assert home.measured("B/03", "B/04", "C/03") == [1, 1, 0]


def instances(
    scheduler: RunningAirflow, dag_id: str, run_id: str
) -> list[tuple[tuple[str, int], dict[str, Any]]]:
    return sorted(scheduler.instances(dag_id, run_id).items(), key=lambda item: item[0])


def states(scheduler: RunningAirflow, dag_id: str, run_id: str) -> set[str]:
    return {each["state"] for _, each in instances(scheduler, dag_id, run_id)}


def ancestors(pid: int) -> list[int]:
    """Return a process, its parent, its parent's parent …"""
    family = []
    while pid > 1:
        family.append(pid)
        status = Path("/proc", str(pid), "status").read_text()
        pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    return family


def command_line(pid: int) -> bytes:
    return Path("/proc", str(pid), "cmdline").read_bytes()


def is_alive(pid: int) -> bool:
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
