"""Datasets that start DAGs, nights, and mails: the example DAGs on a real scheduler, with tasks that are quick."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiosmtpd.controller import Controller

from tests.services.airflow import AirflowHome, make_home
from tests.services.ports import free_port
from tests.services.scheduler import COMPONENTS, RunningAirflow, running_airflow, scheduler_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "dags"
PACKAGE = 'TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core")'

# A dataset with a name that a URI cannot have as it is.
NAME = "my plate/ü '1'"

ANNOUNCER = f"""
from airflow.sdk import DAG, get_current_context, task
from fractal_airflow.assets import DATASETS
from fractal_airflow.dataset.records import Merged
from fractal_airflow.operators.events import announce

with DAG("announcer", params={{"dataset": {NAME!r}, "fail": False}}):
    @task(outlets=[DATASETS])
    def tell():
        context = get_current_context()
        announce(context, context["params"]["dataset"], Merged(1, ["/z/1"], [], [], 5, 4), "Measure", 0)
        if context["params"]["fail"]:
            raise ValueError("after the merge")
    tell()
"""

LISTENER = f"""
from airflow.sdk import DAG, get_current_context, task
from fractal_airflow import FractalDataset
from fractal_airflow.operators.events import event_ranges

with DAG("listener", schedule=FractalDataset({NAME!r}).asset | FractalDataset("other").asset):
    @task
    def hear():
        return event_ranges(get_current_context(), {NAME!r}, 6)
    hear()
"""


class Mailbox:
    """What has come in, by subject."""

    def __init__(self) -> None:
        self.mails: dict[str, EmailMessage] = {}
        self._lock = threading.Lock()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        with self._lock:
            self.mails[str(mail["Subject"])] = mail
        return "250 OK"


@pytest.fixture(scope="module")
def mail_server() -> Iterator[Controller]:
    """A mail server on this machine; its ``handler`` is the mailbox."""
    controller = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture(scope="module")
def scheduler(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, mail_server: Controller
) -> Iterator[RunningAirflow]:
    """An Airflow with the example DAGs, whose workflow is one of the fake tasks."""
    smtp = {
        "conn_type": "smtp",
        "host": mail_server.hostname,
        "port": mail_server.port,
        "extra": {"from_email": "airflow@example.org", "disable_ssl": True, "disable_tls": True},
    }
    settings = {**scheduler_settings(), "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(smtp)}
    home = make_home(tmp_path_factory.mktemp("scheduler") / "home", migrated_database, **settings)
    fail = {"fail_for": ["bad/plate.zarr/B/04/0"], "fail_until": str(home.home / "mended")}
    home.write_workflow("nuclei", {"name": "Measure", "args_parallel": fail})
    with running_airflow(home, (*COMPONENTS, "triggerer")) as airflow:
        yield airflow


@pytest.fixture
def home(scheduler: RunningAirflow) -> AirflowHome:
    """The home of the running Airflow, where everything fails that is to fail."""
    mended(scheduler.home).unlink(missing_ok=True)
    return scheduler.home


def mended(home: AirflowHome) -> Path:
    """A file: where it is there, no image fails any more."""
    return home.home / "mended"


def folder(home: AirflowHome, name: str) -> AirflowHome:
    """The same home with images below another folder."""
    return AirflowHome(home.home, home.settings, data_name=name)


def write_example(home: AirflowHome, name: str, **replace: str) -> None:
    """Write an example DAG with the package of the fake tasks."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for old, new in {
        PACKAGE: f"TaskPackage.from_directory({str(home.package)!r}, {home.python!r})",
        **replace,
    }.items():
        assert old in text
        text = text.replace(old, new)
    home.write_dag(name, text)


def event_extras(home: AirflowHome, name: str = "plate") -> list[dict[str, Any]]:
    """What Airflow keeps of the events of a dataset, the oldest first."""
    with closing(sqlite3.connect(home.home / "airflow.db")) as database:
        extras = [
            json.loads(extra) for (extra,) in database.execute("select extra from asset_event order by id")
        ]
    return [extra for extra in extras if extra["dataset"] == name]


def wait_for_runs(scheduler: RunningAirflow, dag_id: str, count: int) -> list[dict[str, Any]]:
    """Wait until a DAG has had so many runs, and all of them have ended."""

    def ended() -> bool:
        runs = scheduler.runs(dag_id)
        return len(runs) >= count and all(run["state"] in ("success", "failed") for run in runs)

    scheduler.wait(f"{dag_id} has run {count} times", ended)
    return scheduler.runs(dag_id)


class TestEvents:
    def heard(self, scheduler: RunningAirflow) -> list[Any]:
        """What the listener was told, run by run."""
        path = "/dags/listener/dagRuns/{}/taskInstances/hear/xcomEntries/return_value"
        runs = scheduler.runs("listener")
        assert {run["state"] for run in runs} == {"success"}, scheduler.logs()
        return [scheduler.call("GET", path.format(quote(run["dag_run_id"])))["value"] for run in runs]

    def test_an_event_starts_who_waits_for_the_dataset_whatever_its_name(
        self, scheduler: RunningAirflow, home: AirflowHome
    ) -> None:
        home.write_dag("announcer", ANNOUNCER)
        home.write_dag("listener", LISTENER)
        scheduler.unpause("listener")

        assert scheduler.run("announcer", {"fail": True})[1] == "failed"
        scheduler.run("announcer")
        wait_for_runs(scheduler, "listener", 1)
        scheduler.run("announcer", {"dataset": "other"})
        wait_for_runs(scheduler, "listener", 2)

        assert self.heard(scheduler) == [[[4, 6]], []]

    def test_a_dag_processes_what_another_one_changed_and_only_that(
        self, scheduler: RunningAirflow, home: AirflowHome
    ) -> None:
        home = folder(home, "watched")
        home.write_fractal_dag(
            "converter",
            {"name": "Convert Plate", "args_non_parallel": {"wells": "{{ params.wells }}"}},
            dataset="demo_plate",
            params={"wells": []},
        )
        write_example(home, "example_event")
        scheduler.unpause("example_event")
        home.add_images("A/01", dataset="demo_plate")  # was there before: no event tells of it

        assert scheduler.run("converter", {"wells": ["B/03", "B/04"]})[1] == "success", scheduler.logs()
        wait_for_runs(scheduler, "example_event", 2)  # the second is started by the first one's own merge
        assert home.measured("A/01", "B/03", "B/04") == [0, 1, 1]

        assert scheduler.run("converter", {"wells": ["B/05"]})[1] == "success", scheduler.logs()
        runs = wait_for_runs(scheduler, "example_event", 4)

        assert home.measured("A/01", "B/03", "B/04", "B/05") == [0, 1, 1, 1]
        assert [run["state"] for run in runs] == ["success"] * 4
        told = event_extras(home, "demo_plate")
        assert [(event["step_name"], event["dag_ids"]) for event in told] == [
            ("Convert Plate", ["converter"]),
            ("Measure", ["converter", "example_event"]),
        ] * 2
        assert told[2]["added"] == [home.url("B/05")]

    def test_an_event_tells_of_what_a_failed_merge_had_committed(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03", "B/04")
        fail = {"fail_for": ["B/04/0"], "fail_until": str(mended(airflow))}
        airflow.write_fractal_dag("stops", {"name": "Measure", "args_parallel": fail}, images="pending")

        assert airflow.test_dag("stops").state == "failed"
        assert event_extras(airflow) == []
        mended(airflow).touch()
        assert airflow.test_dag("stops").state == "success"

        (event,) = event_extras(airflow)
        assert (event["since"], event["merge"], event["counts"]) == (
            0,
            2,
            {"added": 0, "updated": 0, "removed": 0},
        )
        assert airflow.store.written_between("plate", event["since"], event["merge"]) == {
            airflow.url("B/03"),
            airflow.url("B/04"),
        }

    def test_a_merge_that_changes_nothing_is_no_event(self, airflow: AirflowHome) -> None:
        airflow.add_images("B/03")
        airflow.write_fractal_dag("again", {"name": "Measure"}, images="pending")

        for _ in range(2):
            assert airflow.test_dag("again").state == "success"

        assert len(event_extras(airflow)) == 1


class TestNights:
    def test_a_night_brings_all_its_datasets_up_to_date(
        self, scheduler: RunningAirflow, home: AirflowHome
    ) -> None:
        datasets = {name: folder(home, name) for name in ("night_a", "night_bad", "day")}
        for name, own in datasets.items():
            own.add_images("B/03", "B/04", dataset=name)
        write_example(
            home, "example_nightly", **{"poke_interval=10": "poke_interval=1", 'Param("*"': 'Param("night_*"'}
        )
        scheduler.unpause("example_nightly_dataset")

        def night(run_id: str, state: str) -> dict[str, str]:
            """Return how a night ended, and each of its datasets, by what the UI shows."""
            found = scheduler.instances("example_nightly", run_id).items()
            process = [each for (task, _), each in found if task == "process"]
            return {"night": state, **{each["rendered_map_index"]: each["state"] for each in process}}

        def measured() -> dict[str, list[int]]:
            return {name: own.measured("B/03", "B/04") for name, own in datasets.items()}

        success = dict.fromkeys(("night", "night_a", "night_bad"), "success")
        once = {"night_a": [1, 1], "night_bad": [1, 1], "day": [0, 0]}

        scheduler.unpause("example_nightly")  # by its schedule, last night is due
        (run,) = wait_for_runs(scheduler, "example_nightly", 1)
        failed = {**success, "night": "failed", "night_bad": "failed"}
        assert night(run["dag_run_id"], run["state"]) == failed, scheduler.logs()
        assert measured() == once

        mended(home).touch()
        assert night(*scheduler.run("example_nightly")) == success, scheduler.logs()
        assert measured() == {**once, "night_bad": [1, 2]}


class TestMails:
    def test_the_report_of_a_run_comes_by_mail(
        self, scheduler: RunningAirflow, home: AirflowHome, mail_server: Controller
    ) -> None:
        home = folder(home, "mailed_bad")
        bad = home.add_images("B/03", "B/04", dataset="<mailed>")[1]
        write_example(home, "example_notify")

        def mail(subject: str) -> str:
            mails = mail_server.handler.mails
            scheduler.wait(f"a mail comes: {subject}", lambda: subject in mails)
            assert (mails[subject]["To"], mails[subject]["From"]) == (
                "facility@example.org",
                "airflow@example.org",
            )
            return str(mails[subject].get_body(("html",)).get_content())

        assert scheduler.run("example_notify", {"dataset": "<mailed>"})[1] == "failed"
        text = mail("<mailed>: some images failed")
        assert bad in text
        assert "is out of focus" in text
        assert "&lt;mailed&gt;" in text

        mended(home).touch()
        assert scheduler.run("example_notify", {"dataset": "<mailed>"})[1] == "success", scheduler.logs()
        assert "out of focus" not in mail("<mailed>: all images are done")
