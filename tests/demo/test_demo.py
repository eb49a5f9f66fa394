"""The demo as a user runs it: under a real Airflow, in a folder of its own, on ports that are taken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from airflow_api import AirflowApi
from airflow_home import HOST, USUAL_PORT
from layout import DAG_ID, HOME_VARIABLE, Layout, RunFolder, step_names

from tests.demo import PROJECT

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1200), pytest.mark.xdist_group("demo")]

DESCRIBE_PICTURE = """
import json, sys
from PIL import Image
picture = Image.open(sys.argv[1])
colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
print(json.dumps({"format": picture.format, "size": picture.size, "colours": len(colours)}))
"""


@dataclass(frozen=True)
class FinishedDemo:
    layout: Layout
    run: RunFolder
    output: str

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, HOME_VARIABLE: str(self.layout.home)}


@pytest.fixture(scope="module")
def taken_port() -> Iterator[None]:
    """Airflow's usual port, taken by another program."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((HOST, USUAL_PORT))
            other.listen()
        except OSError:
            pass  # another one has taken it already
        yield


@pytest.fixture(scope="module")
def demo(shared: Layout, taken_port: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """A demo that has run to its end in a folder of its own, with the shared task environments."""
    layout = Layout(tmp_path_factory.mktemp("demo") / "a demo")
    layout.home.mkdir()
    for folder in ("environments", "image"):
        (layout.home / folder).symlink_to(shared.home / folder)
    ended = subprocess.run(
        [sys.executable, PROJECT / "demo" / "run.py"],
        env={**os.environ, HOME_VARIABLE: str(layout.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    run = layout.last_run()
    assert run is not None
    return FinishedDemo(layout, run, ended.stdout)


def processes_of(home: Path) -> list[str]:
    """The commands of the processes that work in a demo folder."""
    marker = f"{HOME_VARIABLE}={home}".encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and marker in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_every_step_has_its_line_of_progress(demo: FinishedDemo) -> None:
    for number, name in enumerate(step_names(), start=1):
        assert [
            line for line in demo.output.splitlines() if f"{number}/4  {name}" in line and " done in " in line
        ]


def test_image_list_has_the_plate_and_its_projection(demo: FinishedDemo) -> None:
    images = json.loads(demo.run.dataset.read_text())["images"]

    wells = [f"{row}{column:02}" for row in "BC" for column in range(3, 7)]
    assert [image["attributes"]["well"] for image in images] == wells * 2
    assert [image["types"]["is_3D"] for image in images] == [True] * 8 + [False] * 8
    assert [image["origin"] for image in images[8:]] == [image["zarr_url"] for image in images[:8]]
    assert all(Path(image["zarr_url"]).is_dir() for image in images)


def test_every_well_has_nuclei(demo: FinishedDemo) -> None:
    nuclei = json.loads(demo.run.nuclei.read_text())

    assert len(nuclei) == 8
    assert all(count > 5 for count in nuclei.values())
    assert len(set(nuclei.values())) > 1
    assert f"Nuclei per well: {sum(nuclei.values())} in all" in demo.output


def test_picture_shows_something(demo: FinishedDemo) -> None:
    python = demo.layout.environments / "core" / "bin" / "python"
    described = subprocess.run(
        [python, "-c", DESCRIBE_PICTURE, demo.run.picture], check=True, capture_output=True
    )
    picture = json.loads(described.stdout)

    assert picture["format"] == "PNG"
    assert min(picture["size"]) > 800
    assert picture["colours"] > 10_000


def test_summary_says_where_everything_lies(demo: FinishedDemo) -> None:
    for place in (demo.run.picture, demo.run.zarr_dir, demo.run.raw_plate, demo.layout.airflow.dataset_store):
        assert f" {place}\n" in demo.output
        assert place.exists()


def test_nothing_is_left_running(demo: FinishedDemo) -> None:
    assert processes_of(demo.layout.home) == []


def test_ui_opens_on_the_finished_run_without_a_password(demo: FinishedDemo) -> None:
    ui = subprocess.Popen(
        [sys.executable, PROJECT / "demo" / "ui.py"], env=demo.environment, stdout=subprocess.PIPE, text=True
    )
    assert ui.stdout is not None
    with ui.stdout:
        page = next(
            line.removeprefix("Airflow is at ").strip() for line in ui.stdout if "Airflow is at" in line
        )
        url = page.partition("/dags/")[0]
        state = AirflowApi(url).run_state(DAG_ID, demo.run.run_id)
        ui.send_signal(signal.SIGTERM)
        exit_code = ui.wait(timeout=60)

    assert page == f"{url}/dags/{DAG_ID}/runs/{demo.run.run_id}"
    assert state == "success"
    assert exit_code == 0
    assert processes_of(demo.layout.home) == []


def test_terminated_demo_leaves_nothing_running(demo: FinishedDemo) -> None:
    with subprocess.Popen(
        [sys.executable, PROJECT / "demo" / "run.py"],
        env=demo.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        next(line for line in running.stdout if f"DAG {DAG_ID}, run" in line)
        time.sleep(2)  # somewhere in the first step
        running.terminate()
        rest = running.stdout.read()

    assert running.returncode == 130
    assert "Stopped." in rest
    assert processes_of(demo.layout.home) == []
