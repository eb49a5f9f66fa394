"""The pages that the buttons of task instances lead to, in a real API server: what they show, and to whom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from fractal_airflow.dataset import StepRun
from fractal_airflow.dataset.records import StepCall
from fractal_airflow.execution.run_folder import batch_folder, open_attempt, run_folder
from fractal_airflow.execution.units import Work
from tests.services import dag_calls
from tests.services.airflow import AirflowHome, RunResult, make_home
from tests.services.scheduler import RunningAirflow, running_airflow, scheduler_settings

AUTH_MANAGER = '''\
"""Airflow's own simple auth manager, in which a guest may see but one DAG."""
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class ByDag(SimpleAuthManager):
    def is_authorized_dag(self, *, user, details=None, **kwargs):
        seen = user.username != "guest" or (details is not None and details.id == "open")
        return seen and super().is_authorized_dag(user=user, details=details, **kwargs)
'''
USERS = ("admin:admin", "viewer:viewer", "guest:viewer", "nobody:")
WELL = "B/<script>alert(1)</script>"


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


@dataclass
class Site:
    """An Airflow with an API server, and a run of two DAGs in which a unit has failed."""

    airflow: RunningAirflow
    runs: dict[str, RunResult]
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> AirflowHome:
        return self.airflow.home

    def get(self, address: str, user: str | None = "viewer", *, browser: bool = False) -> Answer:
        """Ask the API server, as a program does or as a browser; an address may lack the host."""
        base = self.home.settings["AIRFLOW__API__BASE_URL"]
        if user and user not in self.tokens:
            self.tokens[user] = self.airflow.token_of(user, user)
        headers = {}
        if user:
            token = self.tokens[user]
            headers = {"Cookie": f"_token={token}"} if browser else {"Authorization": f"Bearer {token}"}
        request = Request(address if address.startswith("http") else base + address, headers=headers)
        try:
            with build_opener(NoRedirect).open(request, timeout=60) as response:
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))

    def page(self, dag_id: str, place: str) -> str:
        return f"/fractal/dags/{dag_id}/runs/{quote(self.runs[dag_id].run_id, safe='')}/steps/{place}"

    def links(self, dag_id: str, task_id: str, map_index: int = -1) -> dict[str, str]:
        run = quote(self.runs[dag_id].run_id, safe="")
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/links?map_index={map_index}"
        links: dict[str, str] = json.loads(self.get(path).text)["extra_links"]
        return links


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages") / "home"
    settings = {
        **scheduler_settings(),
        "PYTHONPATH": str(folder),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(USERS),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__CORE__AUTH_MANAGER": "by_dag.ByDag",
    }
    home = make_home(folder, migrated_database, **settings)
    (folder / "by_dag.py").write_text(AUTH_MANAGER)
    names = [user.partition(":")[0] for user in USERS]
    (folder / "passwords.json").write_text(json.dumps({name: name for name in names}))
    home.add_images("B/03", "B/04", WELL, is_3D=True, dataset="seen")
    steps = [
        {"name": "Project"},
        {"name": "Measure", "args_parallel": {"fail_for": ["B/04/0_mip"]}},
    ]
    home.write_fractal_dag("seen", *steps, dataset="seen", images_per_batch=2)
    home.write_fractal_dag("open", {"name": "Make Plate"}, dataset="opened")
    runs = {dag_id: home.test_dag(dag_id) for dag_id in ("seen", "open")}
    assert [run.state for run in runs.values()] == ["failed", "success"], runs["seen"].log
    with running_airflow(
        home, ["api-server"], credentials={"username": "admin", "password": "admin"}
    ) as airflow:
        yield Site(airflow, runs)


def test_the_button_of_a_mapped_instance_leads_to_its_units_and_their_logs(site: Site) -> None:
    links = site.links("seen", "1_measure.run", 0)
    assert list(links) == ["Dataset", "Unit logs"]

    shown = site.get(links["Unit logs"])

    assert shown.status == 200
    assert re.findall(r"<code>(plate\.zarr/.*?)</code>.*?>(done|failed)<", shown.text) == [
        ("plate.zarr/B/03/0_mip", "done"),
        ("plate.zarr/B/04/0_mip", "failed"),
    ]
    assert "the task ended with exit code 1" in shown.text
    address = re.findall(r'href="(.*?)"', shown.text)[1]
    log = site.get(f"{links['Unit logs'].rpartition('/')[0]}/{address}")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.text.startswith("=== ")
    assert log.text.endswith("0_mip is out of focus\n")


def test_the_buttons_of_other_tasks(site: Site) -> None:
    assert list(site.links("seen", "1_measure.select")) == ["Dataset"]
    assert list(site.links("seen", "1_measure.merge")) == ["Dataset"]

    shown = site.get(site.links("seen", "0_project.init")["Unit logs"])
    log = site.get(site.page("seen", "0/command/log"))
    converter = site.get(site.links("open", "0_make_plate.run")["Unit logs"])

    assert "the command over all images" in shown.text
    assert 'href="command/log"' in shown.text
    assert "project_init.py" in log.text
    assert (converter.status, "Make Plate" in converter.text) == (200, True)


def test_a_browser_that_is_logged_in_needs_nothing_else(site: Site) -> None:
    address = site.page("seen", "1/units/0/0")

    assert site.get(address, browser=True).text.startswith("=== ")
    assert site.get(address, "guest", browser=True).status == 403


def test_what_users_have_named_is_shown_as_text(site: Site) -> None:
    shown = site.get(site.links("seen", "1_measure.run", 1)["Unit logs"])

    assert "B/&lt;script&gt;alert(1)&lt;/script&gt;/0_mip" in shown.text
    assert "<script" not in shown.text
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_the_button_dataset_leads_to_its_asset(site: Site) -> None:
    (address,) = {
        site.links("seen", f"1_measure.{task}", index)["Dataset"]
        for task, index in [("select", -1), ("run", 0), ("merge", -1)]
    }

    led = site.get(address)

    assert led.status == 303
    base, _, number = led.headers["location"].rpartition("/assets/")
    assert base == site.home.settings["AIRFLOW__API__BASE_URL"]
    assert json.loads(site.get(f"/api/v2/assets/{number}").text)["uri"] == "fractal://local/seen"


PAGES = ["1/units/0", "1/units/0/0", "0/command", "0/command/log", "1/dataset"]


@pytest.mark.parametrize("place", PAGES)
def test_only_those_who_may_see_the_task_logs_of_the_dag_see_a_page(site: Site, place: str) -> None:
    address = site.page("seen", place)

    answers = {user: site.get(address, user) for user in (None, "nobody", "guest", "viewer")}

    statuses = [answer.status for answer in answers.values()]
    assert statuses == [401, 403, 403, 303 if place.endswith("dataset") else 200]
    assert all("measure" not in answers[user].text.lower() for user in (None, "nobody", "guest"))


def test_a_guest_sees_what_is_open_and_gets_nowhere_else_from_there(site: Site) -> None:
    seen, run = site.page("seen", "1/units/0/0"), quote(site.runs["seen"].run_id, safe="")
    own = site.page("open", "0/command/log")
    assert site.get(own, "guest").status == 200

    for address in (
        seen.replace("/dags/seen/", "/dags/open/"),
        seen.replace("/dags/seen/", "/dags/~/"),
        seen.replace("/dags/seen/", "/dags/open%2F..%2Fseen/"),
        seen.replace("/dags/seen/", "/dags/open/../seen/"),
        f"{seen}?dag_id=open",
        f"/fractal//dags/seen/runs/{run}/steps/1/units/0/0",
        f"/fractal/dags//runs/{run}/steps/1/units/0/0?dag_id=open",
    ):
        answer = site.get(address, "guest")
        assert answer.status in (401, 403, 404), address
        assert "out of focus" not in answer.text
        assert "===" not in answer.text


@pytest.mark.parametrize(
    "place",
    [
        "1/units/0/7",
        "1/units/0/-1",
        "1/units/7/0",
        "7/units/0/0",
        "1/units/0/..%2F..%2F..%2Fpasswords.json",
        "1/units/..%2F..%2F0/0",
        "1/units/0/0%2F..%2F..%2Fpasswords.json",
        "1/units/0/%2Fetc%2Fpasswd",
    ],
)
def test_no_address_leads_to_another_file(site: Site, place: str) -> None:
    answer = site.get(site.page("seen", place))

    assert answer.status in (404, 422)
    assert not any(text in answer.text for text in ("root:", '"admin"', "==="))


def test_a_task_cannot_have_its_log_point_elsewhere(site: Site) -> None:
    address = site.page("open", "0/command/log")
    run = run_folder(site.home.runs, "open", site.runs["open"].run_id, 0, "Make Plate")
    (log,) = run.glob("*/1/0-log.txt")
    kept = log.rename(log.with_suffix(".kept"))
    log.symlink_to(site.home.home / "passwords.json")

    answer = site.get(address)

    kept.replace(log)
    assert answer.status == 502
    assert "does not lie in the folder of its run" in answer.text
    assert "viewer" not in answer.text


def test_units_that_have_no_result_yet_are_shown_as_far_as_they_are(site: Site) -> None:
    home, work_dir = site.home, site.home.home / "other_runs"
    extra = json.dumps({"type": "local", "work_dir": str(work_dir)})
    resource = {"connection_id": "other_disk", "conn_type": "fractal", "extra": extra}
    site.airflow.call("POST", "/connections", resource)
    step = StepRun("seen", "running", 3, "fake-tasks/Measure")
    call = StepCall("fake-tasks", None, "Measure", {}, "0123", "other_disk")
    home.store.submit("seen", step, call, [home.url("B/03"), home.url("B/04")])
    address = "/fractal/dags/seen/runs/running/steps/3/units/0"
    before = site.get(address)
    folder = run_folder(work_dir, "seen", "running", 3, "Measure")
    work = Work(("task",), [{"zarr_url": home.url("B/03")}, {"zarr_url": home.url("B/04")}])
    attempt = open_attempt(batch_folder(folder, 0, work), work, "first")
    (attempt.folder / "0-log.txt").write_text("half of it is done\n")

    shown = site.get(address)

    assert "No unit of this task instance has begun" in before.text
    assert re.findall(r'class="quiet">(started|waiting)<', shown.text) == ["started", "waiting"]
    assert shown.text.count("<a ") == 1
    assert site.get(f"{address}/0").text == "half of it is done\n"
    assert site.get(f"{address}/1").status == 404


def test_what_was_submitted_to_a_run_that_was_killed_has_failed(site: Site) -> None:
    home = site.home
    urls = home.add_images("E/03", "E/04", "F/03", "F/04", dataset="killed")
    call = StepCall("fake-tasks", None, "Measure", {}, "0123", "local")
    ended = site.runs["seen"].run_id
    runs = [("seen", ended), ("seen", "deleted"), ("fractal_run", "manual"), ("elsewhere", "manual")]
    for url, run in zip(urls, runs, strict=True):
        home.store.submit("killed", StepRun(*run, 7, "fake-tasks/Measure"), call, [url])

    code, out, err = home.call(dag_calls.fractal_command, "history", "killed", "-o", "json").result(60)

    assert (code, err) == (0, "")
    assert [(row["status"], (row["error"] or "").partition(" before")[0]) for row in json.loads(out)] == [
        ("failed", "The DAG run ended (failed)"),
        ("failed", "The DAG run was deleted"),
        ("failed", "The DAG run was deleted"),
        ("submitted", ""),  # another Airflow knows better
    ]


def test_the_history_has_the_tries_of_task_instances(site: Site) -> None:
    records = site.home.store.statuses("seen", run_id=site.runs["seen"].run_id)

    assert {record.try_number for record in records} == {1}


def test_what_the_history_knows_is_shown_where_the_folder_is_gone(site: Site) -> None:
    run_id = site.runs["seen"].run_id
    folder = run_folder(site.home.runs, "seen", run_id, 1, "Measure").parent
    elsewhere = folder.rename(folder.with_name("kept"))
    try:
        shown = site.get(site.page("seen", "1/units/0"))
        log = site.get(site.page("seen", "1/units/0/1"))
    finally:
        elsewhere.rename(folder)

    assert "`airflow fractal clean` has removed it" in shown.text
    assert re.findall(r"<code>(plate\.zarr/.*?)</code>.*?>(done|failed)<", shown.text) == [
        ("plate.zarr/B/03/0_mip", "done"),
        ("plate.zarr/B/04/0_mip", "failed"),
    ]
    assert "<a " not in shown.text
    assert log.status == 404
    assert "airflow fractal clean" in log.text
