from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from airflow_home import AirflowHome
from airflow_processes import Components, session_members, signal_sessions
from command import DemoError


def wait_until_gone(session: int) -> None:
    deadline = time.monotonic() + 10
    while session_members({session}):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_whose_parent_has_ended_are_found_and_ended() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 60 & exit"], start_new_session=True)
    leader.wait()

    orphans = session_members({leader.pid})
    signal_sessions({leader.pid}, signal.SIGKILL)

    assert len(orphans) == 1
    wait_until_gone(leader.pid)


def test_component_that_ends_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    components = Components(AirflowHome(tmp_path))
    log = components.home.component_log("scheduler")
    log.parent.mkdir(parents=True)
    log.write_text("the database is locked\n")
    components.processes["scheduler"] = subprocess.Popen(["false"])
    components.processes["scheduler"].wait()

    with pytest.raises(DemoError, match=r"scheduler ended with exit code 1.\nthe database is locked"):
        components.check()


def test_stop_ends_those_that_do_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_processes.GRACE_S", 0.2)
    components = Components(AirflowHome(tmp_path))
    stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    process = subprocess.Popen(stubborn, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    components.processes["scheduler"] = process

    components.stop()
    process.stdout.close()

    assert process.returncode == -signal.SIGKILL
    wait_until_gone(process.pid)
