"""``airflow fractal clean``: what is finished and old goes, by what Airflow's own database says."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fractal_airflow.cli.clean import age_limit
from fractal_airflow.cli.output import size_text
from fractal_airflow.exceptions import FractalAirflowError
from tests.cli.conftest import Call, Ended
from tests.services import dag_calls
from tests.services.airflow import AirflowHome, make_home

DAY = 86400


@pytest.fixture
def ran(tmp_path: Path, migrated_database: Path) -> AirflowHome:
    """An Airflow in which a run has just ended; its folder looks as if that were 40 days ago."""
    airflow = make_home(tmp_path / "home", migrated_database)
    airflow.add_images("B/03")
    airflow.write_fractal_dag("nuclei", {"name": "Measure"})
    assert airflow.test_dag("nuclei").state == "success"
    age(airflow.runs, 40)
    return airflow


def age(folder: Path, days: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - days * DAY,) * 2)


def clean(airflow: AirflowHome, *options: str, **settings: str) -> Ended:
    """Call the command in a process of this Airflow."""
    return Ended(*airflow.call(dag_calls.fractal_command, "clean", *options, **settings).result(60))


def run_folders(work_dir: Path) -> list[Path]:
    return [path for path in work_dir.glob("[!.]*/*") if path.is_dir()]


def change(airflow: AirflowHome, statement: str, *values: Any) -> None:
    """Change Airflow's database."""
    with sqlite3.connect(airflow.home / "airflow.db") as connection:
        connection.execute(statement, values)


def ended_days_ago(airflow: AirflowHome, days: int) -> None:
    change(airflow, "UPDATE dag_run SET end_date = datetime('now', ?) || '.000000'", f"-{days} days")


def test_a_run_goes_when_it_has_been_finished_for_long(ran: AirflowHome) -> None:
    assert clean(ran).out.startswith("Removed 0 run folders")  # it has ended just now

    ended_days_ago(ran, 31)
    (folder,) = run_folders(ran.runs)
    shown = clean(ran, "--dry-run")
    assert shown.code == 0
    assert str(folder) in shown.out
    assert "Would remove 1 run folder untouched since" in shown.out
    assert folder.exists()

    ended = clean(ran)

    assert ended.code == 0
    assert "Removed 1 run folder untouched since" in ended.out
    assert run_folders(ran.runs) == []
    assert ran.measured("B/03") == [1]


@pytest.mark.parametrize("state", ["running", "queued"])
def test_a_run_that_is_not_finished_is_never_touched(ran: AirflowHome, state: str) -> None:
    ended_days_ago(ran, 31)
    change(ran, "UPDATE dag_run SET state = ?", state)

    assert clean(ran, "--older-than", "0d").out.startswith("Removed 0 run folders")
    assert len(run_folders(ran.runs)) == 1


@pytest.mark.parametrize("state", ["deferred", "up_for_retry", "running"])
def test_nor_is_a_failed_run_with_an_instance_that_is_not_finished(ran: AirflowHome, state: str) -> None:
    ended_days_ago(ran, 31)
    change(ran, "UPDATE dag_run SET state = 'failed'")
    change(ran, "UPDATE task_instance SET state = ? WHERE task_id LIKE '%.run'", state)

    assert clean(ran, "--older-than", "0d").out.startswith("Removed 0 run folders")
    assert len(run_folders(ran.runs)) == 1


def test_a_run_that_airflow_does_not_know_goes_when_it_is_old(ran: AirflowHome) -> None:
    change(ran, "DELETE FROM dag_run")

    assert clean(ran, "--older-than", "6w").out.startswith("Removed 0 run folders")
    told = json.loads(clean(ran, "--older-than", "960h", "--output", "json").out)

    (local,) = told["resources"]
    assert (local["resource"], local["work_dir"]) == ("local", str(ran.runs))
    (removed,) = local["removed"]
    assert removed["folder"].startswith(f"{ran.runs}/nuclei/")
    assert removed["bytes"] > 0
    assert (local["in_use"], local["failed"], local["error"]) == ([], [], None)
    assert run_folders(ran.runs) == []


def test_the_settings_say_how_old(ran: AirflowHome) -> None:
    ended_days_ago(ran, 31)

    assert "Removed 0" in clean(ran, AIRFLOW__FRACTAL_AIRFLOW__CLEAN_AFTER_DAYS="35").out
    assert "Removed 1" in clean(ran, AIRFLOW__FRACTAL_AIRFLOW__CLEAN_AFTER_DAYS="20").out


def test_all_resources_are_cleaned_even_if_one_cannot_be(ran: AirflowHome, tmp_path: Path) -> None:
    ended_days_ago(ran, 31)
    (folder,) = run_folders(ran.runs)
    lab = tmp_path / "lab"
    lab.mkdir()
    folder.parent.rename(lab / "nuclei")
    ran.cli(
        *("connections", "add", "lab", "--conn-type", "fractal", "--conn-extra"), f'{{"work_dir": "{lab}"}}'
    )
    ran.settings["AIRFLOW_CONN_BROKEN"] = '{"conn_type": "fractal", "extra": {"type": "cloud"}}'

    elsewhere = ran.cli("fractal", "clean", "--resource", "local")
    ended = ran.cli("fractal", "clean", check=False)

    assert "Removed 0" in elsewhere.stdout
    assert ended.returncode == 1
    assert "Resource 'broken'" in ended.stderr
    assert "Removed 1 run folder" in ended.stdout
    assert run_folders(lab) == []


def test_without_airflows_database_nothing_is_removed_unless_there_is_no_airflow(
    airflow: AirflowHome, call: Call
) -> None:
    attempt = airflow.runs / "nuclei" / "once" / "00_Measure" / f"0000-{0:012x}" / "1"
    attempt.mkdir(parents=True)
    age(airflow.runs, 40)

    refused = call("clean")
    assert refused.code == 1
    assert "Airflow's metadata database does not exist" in refused.err
    assert attempt.exists()

    ended = call("clean", "--no-airflow")
    assert (ended.code, "Removed 1 run folder" in ended.out) == (0, True)
    assert run_folders(airflow.runs) == []


def test_a_database_that_cannot_be_read_keeps_everything(ran: AirflowHome) -> None:
    change(ran, "DROP TABLE task_instance")

    ended = clean(ran)

    assert (ended.code, ended.out) == (1, "")
    assert "no such table: task_instance" in ended.err
    assert "airflow db migrate" in ended.err
    assert len(run_folders(ran.runs)) == 1


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("30d", timedelta(days=30)),
        ("30", timedelta(days=30)),
        ("12 H", timedelta(hours=12)),
        ("1.5w", timedelta(days=10.5)),
        (None, timedelta(days=30)),
    ],
)
def test_ages(text: str | None, limit: timedelta) -> None:
    assert age_limit(text) == limit


@pytest.mark.parametrize("text", ["", "d", "-3d", "soon", "30m", "nan", "9999999999w"])
def test_what_is_no_age_is_an_error(text: str) -> None:
    with pytest.raises(FractalAirflowError, match="--older-than: "):
        age_limit(text)


def test_sizes_as_people_read_them() -> None:
    sizes = [0, 999, 4096, 3_400_000_000, 5e15]
    assert [size_text(size) for size in sizes] == ["0 bytes", "999 bytes", "4.1 kB", "3.4 GB", "5000.0 TB"]
