"""The example that watches for plates, under a real scheduler and a triggerer that is killed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services.airflow import make_home
from tests.services.scheduler import COMPONENTS, RunningAirflow, running_airflow, scheduler_settings

EXAMPLE = Path(__file__).parent.parent.parent / "dags" / "example_new_plates.py"
LONG_AGO = 1_600_000_000
STRANGE = "plate 'x' \"y\" é"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[RunningAirflow]:
    """An Airflow that watches a folder, in which a plate has been for long."""
    folder = tmp_path_factory.mktemp("plates")
    settings = {
        **scheduler_settings(),
        "FRACTAL_DEMO_DIR": str(folder),
        # That one was killed is seen soon.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    }
    home = make_home(folder / "home", migrated_database, **settings)
    make_plate(folder, "old", time=LONG_AGO)
    text = EXAMPLE.read_text(encoding="utf-8")
    home.write_dag(
        "watch",
        text.replace("quiet_minutes=1,", "quiet_minutes=0.02,").replace(
            "poll_interval=30", "poll_interval=0.5"
        ),
    )
    home.write_fractal_dag(
        "fractal_demo",
        {
            "name": "Make Plate",
            "args_non_parallel": {"plate": "{{ params.raw_plate.split('/')[-1] }}", "wells": ["B/03"]},
        },
        params={"raw_plate": "none"},
    )
    with running_airflow(home, [*COMPONENTS, "triggerer"]) as running:
        for dag_id in ("fractal_demo", "example_new_plates"):
            running.wait(f"DAG {dag_id} is known", lambda dag_id=dag_id: running._unpaused(dag_id))
        yield running


@pytest.fixture
def folder(airflow: RunningAirflow) -> Path:
    """The folder of the example: plates are acquired in its folder `acquisitions`."""
    return Path(airflow.home.settings["FRACTAL_DEMO_DIR"])


def make_plate(folder: Path, name: str, *, complete: bool = True, time: int | None = None) -> Path:
    plate = folder / "acquisitions" / name
    (plate / "images").mkdir(parents=True)
    (plate / "images" / "B03.tif").write_text("half")
    if complete:
        (plate / "tiles.csv").touch()
    if time is not None:
        for path in (plate / "images" / "B03.tif", plate / "images", plate / "tiles.csv", plate):
            os.utime(path, (time, time))
    return plate


def runs(airflow: RunningAirflow, dag_id: str = "fractal_demo") -> list[dict[str, Any]]:
    return list(airflow.call("GET", f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"])


def running(airflow: RunningAirflow) -> list[str]:
    """Return the runs of the example that have not ended."""
    ended = ("success", "failed")
    return [run["dag_run_id"] for run in runs(airflow, "example_new_plates") if run["state"] not in ended]


def started(airflow: RunningAirflow) -> Counter[str]:
    """Return how many runs of the workflow each dataset has."""
    return Counter(run["conf"]["dataset"] for run in runs(airflow))


def finished(airflow: RunningAirflow) -> dict[str, str]:
    """Return how the runs of the workflow have ended, by their datasets."""
    ends = [run for run in runs(airflow) if run["state"] in ("success", "failed")]
    return {run["conf"]["dataset"]: run["state"] for run in ends}


def reports(airflow: RunningAirflow) -> Counter[str]:
    """Return how often each plate was reported."""
    # The API does not give events while a run of theirs is queued: it wants its start (a 500).
    with database(airflow) as connection:
        extras = [json.loads(extra) for (extra,) in connection.execute("select extra from asset_event")]
    return Counter(extra["payload"]["name"] for extra in extras if "payload" in extra)


def forget(airflow: RunningAirflow, name: str) -> None:
    """Take a plate out of what the watcher has noted."""
    where = "where key like 'acquisitions/%/0'"
    with database(airflow) as connection:
        ((value,),) = connection.execute(f"select value from asset_state_store {where}").fetchall()
        noted = json.loads(value)
        del noted[name]
        connection.execute(f"update asset_state_store set value = ? {where}", (json.dumps(noted),))
        connection.commit()


@contextmanager
def database(airflow: RunningAirflow) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(airflow.home.home / "airflow.db", timeout=60)) as connection:
        yield connection


def test_a_plate_starts_a_run_of_its_own_once_it_is_complete(airflow: RunningAirflow, folder: Path) -> None:
    growing = make_plate(folder, "growing", complete=False)
    make_plate(folder, "whole")
    airflow.wait("the whole one has begun", lambda: started(airflow), timeout_s=240)
    assert reports(airflow) == {"whole": 1}, "one is being written, and one has been there for long"

    (growing / "tiles.csv").touch()
    airflow.wait("both are processed", lambda: len(finished(airflow)) == 2)

    assert finished(airflow) == {"whole": "success", "growing": "success"}, airflow.logs()
    images = airflow.home.store.snapshot("growing").images
    assert [image.zarr_url for image in images] == [f"{folder}/plates/growing/growing.zarr/B/03/0"]
    # That they run is shown: from here on it is enough to see that they are started.
    airflow.call("PATCH", "/dags/fractal_demo", {"is_paused": True})


def test_several_plates_at_once_are_started_each(airflow: RunningAirflow, folder: Path) -> None:
    names = {STRANGE, "many 1", "many 2", "many 3"}
    for name in names:
        make_plate(folder, name)

    airflow.wait("all are started", lambda: names <= set(started(airflow)))

    assert set(started(airflow).values()) == {1}


def test_after_a_triggerer_was_killed_nothing_is_started_again(airflow: RunningAirflow, folder: Path) -> None:
    airflow.kill("triggerer")
    make_plate(folder, "meanwhile")
    forget(airflow, "growing")  # as if the triggerer had died before it could note that its event was stored
    airflow.start("triggerer")

    airflow.wait("what came meanwhile is started", lambda: "meanwhile" in started(airflow))
    airflow.wait("all events are dealt with", lambda: not running(airflow))

    assert {name for name, times in reports(airflow).items() if times > 1} == {"growing"}
    assert set(started(airflow).values()) == {1}
    assert "old" not in reports(airflow)


def test_a_folder_that_vanishes_is_waited_for(airflow: RunningAirflow, folder: Path) -> None:
    watched, log = folder / "acquisitions", airflow.home.home / "triggerer.log"
    watched.rename(folder / "away")
    airflow.wait("the log says so", lambda: "cannot be read" in log.read_text(errors="replace"))
    (folder / "away").rename(watched)
    airflow.wait("the log says so", lambda: "can be read again" in log.read_text(errors="replace"))
    make_plate(folder, "last")

    airflow.wait("a new one is reported", lambda: "last" in reports(airflow))

    assert reports(airflow)["whole"] == 1
    assert log.read_text(errors="replace").count("cannot be read") == 1


def test_a_second_plate_of_the_same_name_overwrites_nothing(airflow: RunningAirflow, folder: Path) -> None:
    first, note = folder / "acquisitions" / "whole", folder / "plates/whole/.fractal_airflow/acquisition.json"
    before = note.read_bytes()

    first.rename(folder / "first")
    make_plate(folder, "whole")
    airflow.wait(
        "it is refused", lambda: "failed" in {run["state"] for run in runs(airflow, "example_new_plates")}
    )

    assert "Two acquisitions want" in airflow.logs()
    assert started(airflow)["whole"] == 1
    assert note.read_bytes() == before
