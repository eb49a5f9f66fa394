"""``airflow fractal resource check`` without a cluster: this machine, and connections that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fractal_airflow.cli.resource_check import print_finding, summary
from fractal_airflow.execution.findings import Finding
from tests.cli.conftest import Call
from tests.services.airflow import AirflowHome


def set_connection(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "fractal", "extra": extra}))


def test_this_machine_works(airflow: AirflowHome, call: Call) -> None:
    ended = call("resource", "check", "local")

    assert ended.code == 0, ended
    lines = [line.split(maxsplit=2) for line in ended.out.splitlines()]
    assert ended.out.startswith(f"local: a resource of type local, work folder {airflow.runs}\n\n")
    assert ["ok", "unit"] in [line[:2] for line in lines]
    assert ended.out.endswith("\nAll is well\n")
    assert not list(airflow.runs.rglob("results.jsonl"))


def test_for_scripts_there_is_json(airflow: AirflowHome, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    (airflow.home / "file").touch()
    set_connection(monkeypatch, work_dir=str(airflow.home / "file" / "runs"))

    ended = call("resource", "check", "lab", "-o", "json")

    told = json.loads(ended.out)
    (finding,) = told["findings"]
    assert (ended.code, told["ok"], told["type"]) == (1, False, "local")
    assert (finding["check"], finding["status"]) == ("work folder", "error")
    assert "cannot be written" in finding["message"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"type": "slurm_ssh", "work_dir": "/shared"}, "ssh_conn_id is missing"),
        ({"type": "slurm_ssh", "ssh_conn_id": "hpc_ssh"}, "work_dir"),
        ({"type": "slurm", "work_dir": "/shared", "poll_intervall": 3}, "poll_intervall"),
    ],
)
def test_a_connection_that_makes_no_resource(
    airflow: AirflowHome, call: Call, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], said: str
) -> None:
    set_connection(monkeypatch, **extra)

    ended = call("resource", "check", "lab")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: Resource 'lab': ")
    assert said in ended.err


def test_a_finding_shows_its_advice_below_and_whole(capfd: pytest.CaptureFixture[str]) -> None:
    print_finding(Finding("work folder", "error", "no [right] to write", "ask " + "x" * 300))

    first, second = capfd.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["error", "work folder   no [right] to write"]
    assert second.split() == ["→", "ask", "x" * 300]


def test_the_last_line_is_what_it_comes_to() -> None:
    well, warned, wrong = (Finding("a", status, "b") for status in ("ok", "warning", "error"))

    assert summary([well, well]) == "All is well"
    assert summary([well, warned]) == "It can be used; 1 warning"
    assert summary([well, warned, wrong]) == "It cannot be used as it is: 1 of 3 checks failed"
