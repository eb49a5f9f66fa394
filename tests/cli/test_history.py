"""``airflow fractal history`` and ``airflow fractal logs``: what became of the images, and what their units said."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.cli import metadata
from fractal_airflow.cli.finding import ending_with, similar_to
from fractal_airflow.cli.history import MOST_ROWS, cells, print_table
from fractal_airflow.dataset import ImageStatus, StepRun
from fractal_airflow.dataset.records import StepCall
from tests.cli.conftest import Call
from tests.cli.runs import run
from tests.services.airflow import AirflowHome

WHEN = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


class Screen:
    """A dataset of three images, with what two runs of two steps did to them."""

    def __init__(self, airflow: AirflowHome) -> None:
        self.airflow = airflow
        self.urls = airflow.add_images("B/03", "B/04", "C/03")
        one, two, three = self.urls
        self.run("monday", 0, "Project", [done(one, 1), done(two, 2)])
        self.run("monday", 1, "Measure", [done(one, 3), failed(two, "exit code 1\nLast lines of …")])
        self.run("tuesday", 0, "Project", [done(three, 1)])
        self.run("tuesday", 1, "Measure", [])
        self.airflow.store.submit("plate", *self.step("tuesday", 1, "Measure"), [one])

    def step(
        self, run_id: str, number: int, name: str, resource: str = "local", dag_id: str = "nuclei"
    ) -> tuple[StepRun, StepCall]:
        return (
            StepRun(dag_id, run_id, number, f"fake-tasks/{name}"),
            StepCall("fake-tasks", "1.0.0", f"{name} it", {}, "0123456789abcdef", resource),
        )

    def run(self, run_id: str, number: int, name: str, statuses: list[ImageStatus]) -> None:
        step, call = self.step(run_id, number, name)
        self.airflow.store.submit("plate", step, call, [status.zarr_url for status in statuses])
        self.airflow.store.record_statuses("plate", step, statuses)

    def log(
        self,
        url: str,
        text: str,
        run_id: str = "wednesday",
        resource: str = "local",
        dag_id: str = "nuclei",
    ) -> Path:
        """Let an image be processed once more, with a log."""
        path = self.airflow.runs / dag_id / run_id / "00_Project" / "0000-0123456789ab" / "1" / "0-log.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        step, call = self.step(run_id, 0, "Project", resource, dag_id)
        self.airflow.store.submit("plate", step, call, [url])
        self.airflow.store.record_statuses("plate", step, [ImageStatus(url, "done", log=str(path))])
        return path


def done(url: str, seconds: float) -> ImageStatus:
    return ImageStatus(
        url,
        "done",
        0,
        f"/runs/{seconds}-log.txt",
        "0123456789abcdef",
        started_at=WHEN,
        seconds=seconds,
        max_rss_mb=100.0,
        try_number=2,
        warnings=("WARNING: dark", "WARNING: slow"),
    )


def failed(url: str, error: str) -> ImageStatus:
    return ImageStatus(url, "failed", error=error)


@pytest.fixture
def screen(airflow: AirflowHome) -> Screen:
    return Screen(airflow)


def rows(call: Call, *options: str) -> list[dict[str, Any]]:
    ended = call("history", "plate", "-o", "json", *options)
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = json.loads(ended.out)
    return found


def told(call: Call, screen: Screen, *options: str) -> list[tuple[int, str, str, str | None]]:
    """Return step, image, status and run of each row."""
    names = dict(zip(screen.urls, ("B/03", "B/04", "C/03"), strict=True))
    return [
        (row["step"], names[row["zarr_url"]], row["status"], row.get("run_id"))
        for row in rows(call, *options)
    ]


def test_the_newest_record_of_each_image_at_each_step_is_shown_with_all_that_is_known(
    screen: Screen, call: Call
) -> None:
    assert told(call, screen) == [
        (0, "B/03", "done", "monday"),
        (0, "B/04", "done", "monday"),
        (0, "C/03", "done", "tuesday"),
        (1, "B/03", "submitted", "tuesday"),
        (1, "B/04", "failed", "monday"),
    ]
    first = rows(call)[0]
    assert (first.pop("recorded"), first.pop("task")) > ("2026", "")
    assert first == {
        "step": 0,
        "name": "Project it",
        "zarr_url": screen.urls[0],
        "status": "done",
        "dag_id": "nuclei",
        "run_id": "monday",
        "map_index": 0,
        "try": 2,
        "started": "2026-11-21T12:00:30+00:00",
        "seconds": 1.0,
        "max_rss_mb": 100.0,
        "fingerprint": "0123456789abcdef",
        "warnings": ["WARNING: dark", "WARNING: slow"],
        "error": None,
        "log": "/runs/1-log.txt",
    }


def test_the_table_is_for_people(screen: Screen, call: Call) -> None:
    lines = [line.split() for line in call("history", "plate").out.splitlines() if "plate.zarr" in line]

    assert " ".join(lines[0]) == (
        "0 Project it plate.zarr/B/03/0 done monday 2 2026-11-21 12:00:30 1.0 104.9 MB 01234567 2 /runs/1-log.txt"
    )
    assert " ".join(lines[4]) == "1 Measure it plate.zarr/B/04/0 failed monday exit code 1"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--status", "failed"], [(1, "B/04", "failed", "monday")]),
        (["--status", "submitted"], [(1, "B/03", "submitted", "tuesday")]),
        (["--run", "monday", "--step", "1", "--status", "done"], [(1, "B/03", "done", "monday")]),
        (
            ["--image", "B/03/0", "--all"],
            [
                (0, "B/03", "done", "monday"),
                (1, "B/03", "done", "monday"),
                (1, "B/03", "submitted", "tuesday"),
            ],
        ),
        (["--step", "measure it", "--image", "B/04/0"], [(1, "B/04", "failed", "monday")]),
        (["--step", "Project", "--run", "tuesday"], [(0, "C/03", "done", "tuesday")]),
        (["--step", "1_measure", "--status", "done"], []),
        (["--status", "unset"], [(1, "C/03", "unset", None)]),
        (
            ["--status", "unset", "--run", "tuesday", "--step", "0"],
            [(0, "B/03", "unset", None), (0, "B/04", "unset", None)],
        ),
        (["--status", "unset", "--image", "B/03/0"], []),
    ],
)
def test_the_history_can_be_narrowed_down(
    screen: Screen, call: Call, options: list[str], expected: list[tuple[int, str, str, str | None]]
) -> None:
    assert told(call, screen, *options) == expected


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["history", "nothing"], ["nothing"]),
        (["history", "plate", "--image", "03/0"], ["2 images that end in '03/0'", "B/03/0", "C/03/0"]),
        (["history", "plate", "--image", "B/30/0"], ["no image 'B/30/0'", "plate.zarr/B/03/0"]),
        (["history", "plate", "--step", "Segment"], ["no step 'Segment'", "0 (Project it), 1 (Measure it)"]),
        (["history", "plate", "--step", "2"], ["no step '2'"]),
        (["history", "plate", "--run", "friday"], ["No step of a run 'friday'", "tuesday, monday"]),
        (
            ["history", "plate", "--dag", "other"],
            ["No step of a run of DAG 'other'", "tuesday of nuclei, monday of nuclei"],
        ),
        (["history", "plate", "--dag", "other", "--run", "monday"], ["a run 'monday' of DAG 'other'"]),
        (["logs", "plate", "C/04/0"], ["no image 'C/04/0'", "C/03/0"]),
        (["logs", "plate", "C/03/0", "--step", "1"], ["was never processed at step '1'"]),
        (["logs", "plate", "C/03/0", "--run", "monday"], ["was never processed in run 'monday'"]),
        (
            ["logs", "plate", "C/03/0", "--run", "tuesday", "--dag", "other"],
            ["was never processed in run 'tuesday' of DAG 'other'"],
        ),
        (["logs", "plate", "B/04/0", "--step", "1"], ["has no log at step '1': exit code 1"]),
        (["logs", "plate", "B/03/0", "--run", "tuesday"], ["is being processed", "step 1 of run tuesday"]),
        (["logs", "plate"], ["A step without images", "was never processed"]),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    screen: Screen, call: Call, argv: list[str], said: list[str]
) -> None:
    ended = call(*argv)

    assert (ended.code, ended.out) == (1, "")
    for text in said:
        assert text in ended.err


def test_of_very_many_rows_the_table_has_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    row = {"step": 0, "name": "Measure", "zarr_url": "/data/a", "status": "done", "dag_id": "a"}
    print_table([{**row, "zarr_url": f"/data/{number}"} for number in range(MOST_ROWS + 7)], "/data")

    lines = capfd.readouterr().out.splitlines()
    assert sum("Measure" in line for line in lines) == MOST_ROWS
    assert lines[-1].startswith(f"The first {MOST_ROWS} of {MOST_ROWS + 7} rows: choose with --image")


def test_cells_of_a_step_without_images_and_of_a_long_error() -> None:
    shown = cells(
        {"step": 0, "name": "Convert", "zarr_url": "", "status": "failed", "error": "x" * 300}, "/data"
    )

    assert shown["image"] == "(whole step)"
    assert shown["error"] == "x" * 98 + " …"


def test_the_dag_is_shown_where_there_are_several(capfd: pytest.CaptureFixture[str]) -> None:
    row = {"step": 0, "name": "Measure", "zarr_url": "/data/a", "status": "done"}
    print_table([{**row, "dag_id": "nightly"}, {**row, "dag_id": "by hand"}], "/data")

    assert "nightly" in capfd.readouterr().out


def test_an_image_is_found_by_whole_names_at_its_end() -> None:
    urls = ["/d/p.zarr/B/03/0", "/d/p.zarr/B/03/10", "/d/p.zarr/BB/03/0", "/0"]

    assert ending_with(urls, "B/03/0") == ["/d/p.zarr/B/03/0"]
    assert ending_with(urls, "/B/03/0/") == ["/d/p.zarr/B/03/0"]
    assert ending_with(urls, "/0") == ["/0"]
    assert ending_with(urls, "03/0") == ["/d/p.zarr/B/03/0", "/d/p.zarr/BB/03/0"]
    assert ending_with(urls, "/") == []
    assert similar_to("B/30/0", ["p.zarr/B/03/0", "p.zarr/C/07/1"]) == ["p.zarr/B/03/0"]


def test_a_log_is_printed_and_nothing_else(screen: Screen, call: Call) -> None:
    path = screen.log(screen.urls[1], "=== began\nall is well\n")

    ended = call("logs", "plate", "B/04/0")

    assert (ended.code, ended.out) == (0, "=== began\nall is well\n")
    assert ended.err == f"Step 0 Project it, run wednesday: done\n{path}\n"


def test_of_two_dags_with_the_same_run_ids_one_can_be_named(screen: Screen, call: Call) -> None:
    url = screen.urls[1]
    for dag_id in ("nightly", "by_hand"):
        screen.log(url, f"{dag_id}\n", run_id="scheduled__2026-11-21", dag_id=dag_id)
    asked = ("--run", "scheduled__2026-11-21", "--dag", "nightly")

    assert [row["dag_id"] for row in rows(call, *asked)] == ["nightly"]
    assert call("logs", "plate", "B/04/0", *asked).out == "nightly\n"
    assert call("logs", "plate", "B/04/0", *asked[:2]).out == "by_hand\n"


def test_a_log_that_was_cleaned_away_is_named(screen: Screen, call: Call) -> None:
    path = screen.log(screen.urls[1], "")
    shutil.rmtree(screen.airflow.runs)

    ended = call("logs", "plate", "B/04/0")

    assert (ended.code, ended.out) == (1, "")
    assert f"There is no {path}" in ended.err
    assert "`airflow fractal clean` removes the folders of old runs" in ended.err


def test_a_resource_that_is_gone_is_named(screen: Screen, call: Call) -> None:
    path = screen.log(screen.urls[1], "", resource="old_cluster")

    ended = call("logs", "plate", "B/04/0")

    assert (ended.code, ended.out) == (1, "")
    assert f"The log {path} lies where resource 'old_cluster' runs units" in ended.err
    assert "no Airflow connection 'old_cluster'" in ended.err


def test_the_log_of_a_run_on_the_command_line_is_found(airflow: AirflowHome, call: Call) -> None:
    airflow.add_images("B/03", "B/04")
    workflow = airflow.write_workflow(
        "nuclei", {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0"]}}
    )
    run(airflow, workflow, code=1)

    ended = call("logs", "plate", "B/04/0")

    assert ended.out.startswith("=== "), ended.err
    assert ended.out.endswith("B/04/0 is out of focus\n")
    assert "Step 0 Measure, run manual__" in ended.err
    assert "B/04/0" not in call("logs", "plate", "B/03/0").out.partition("\n")[2]


def test_where_nobody_can_tell_which_commands_run_they_count_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "PROCESSES", tmp_path / "proc")  # as on macOS

    assert metadata.run_state(metadata.DAG_ID, "manual") == "running"


def test_the_log_of_a_step_without_images_has_no_image(screen: Screen, call: Call) -> None:
    screen.log("", "converted\n")

    assert call("logs", "plate", "--step", "project").out == "converted\n"
