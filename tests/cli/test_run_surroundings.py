"""What happens around a run: other runs, signals, Airflow's own database."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.runs import arguments, image_names, result, run
from tests.services.airflow import AirflowHome

AIRFLOW = str(Path(sys.executable).parent / "airflow")


def start(airflow: AirflowHome, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [AIRFLOW, "fractal", *argv],
        env=airflow.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_its_units_and_leaves_nothing_behind(
    airflow: AirflowHome, number: signal.Signals
) -> None:
    urls = airflow.add_images("B/03", "B/04")
    before = airflow.store.export("plate")
    workflow = airflow.write_workflow(
        "slow", {"name": "Measure", "args_parallel": {"seconds": 600}}, {"name": "Measure"}
    )
    process = start(airflow, *arguments(airflow, workflow))
    wait_for(Path(urls[0], "runs.txt"), process)
    units = psutil.Process(process.pid).children(recursive=True)
    assert units

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err == f"error: stopped by {number.name}\n"
    assert "Failed after " in out
    _, alive = psutil.wait_procs(units, timeout=5)
    assert not alive
    assert airflow.store.export("plate") == before
    assert set(airflow.statuses().values()) == {"failed"}
    told = result(airflow)
    assert (told["status"], told["error"]) == ("failed", f"stopped by {number.name}")
    assert [step["status"] for step in told["steps"]] == ["failed"]


def test_two_runs_at_once_on_one_dataset_lose_nothing(airflow: AirflowHome) -> None:
    urls = airflow.add_images("B/03", "B/04", is_3D=True)
    processes = []
    for suffix, well in (("_left", "B03"), ("_right", "B04")):
        workflow = airflow.write_workflow(
            f"run{suffix}",
            {"name": "Project", "args_non_parallel": {"suffix": suffix}},
            {"name": "Measure", "args_parallel": {"note": suffix}},
        )
        chosen = ("--attribute-filters", f'{{"well": ["{well}"]}}')
        processes.append(start(airflow, *arguments(airflow, workflow, *chosen)))

    ends = [(process.communicate(timeout=300), process.returncode) for process in processes]

    assert [code for _, code in ends] == [0, 0], ends
    names = image_names(airflow.store.export("plate")["images"])
    assert sorted(names) == ["B/03/0", "B/03/0_left", "B/04/0", "B/04/0_right"]
    for url, side in zip(urls, ("left", "right"), strict=True):
        assert (Path(f"{url}_{side}") / "runs.txt").exists()


def test_airflows_database_gives_its_connections_and_is_otherwise_left_alone(airflow: AirflowHome) -> None:
    urls = airflow.add_images("B/03")
    work = airflow.home / "elsewhere"
    airflow.cli("db", "migrate")
    # A setting that must not reach the run: it would wait for minutes to try again.
    airflow.settings["AIRFLOW__CORE__DEFAULT_TASK_RETRIES"] = "3"
    extra = f'{{"work_dir": "{work}"}}'
    airflow.cli("connections", "add", "cluster", "--conn-type", "fractal", "--conn-extra", extra)
    before = table_sizes(airflow.home / "airflow.db")
    workflow = airflow.write_workflow("once", {"name": "Measure", "args_parallel": {"fail_for": ["B/03/0"]}})

    run(airflow, workflow, "--resource", "cluster", code=1)

    assert airflow.measured("B/03") == [1]
    assert list(work.rglob("results.jsonl"))
    assert table_sizes(airflow.home / "airflow.db") == before
    assert result(airflow)["steps"][0]["units"][0]["zarr_urls"] == urls


def table_sizes(database: Path) -> dict[str, int]:
    with sqlite3.connect(database) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}


def test_a_run_that_is_stopped_as_it_starts_leaves_no_folder_behind(airflow: AirflowHome) -> None:
    airflow.add_images("B/03")
    workflow = airflow.write_workflow("slow", {"name": "Measure", "args_parallel": {"seconds": 600}})
    process = start(airflow, *arguments(airflow, workflow))
    temporary = Path(airflow.settings["TMPDIR"])
    while not list(temporary.iterdir()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (1, "error: stopped by SIGINT\n")
    assert list(temporary.iterdir()) == []
    assert airflow.measured("B/03") == [0]
