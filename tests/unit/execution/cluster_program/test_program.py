"""The program as a program: what comes in on stdin, and what goes out."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_airflow.execution.archive import program_path, runner_name, write_runner
from fractal_airflow.execution.runner.cluster.program import answer
from tests.unit.execution.batches import wait_until
from tests.unit.execution.cluster_program.calls import Failed, Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm


def pythons() -> list[Path]:
    """Return this Python, and those that pyenv has put on this machine, if it has."""
    others = sorted((Path.home() / ".pyenv" / "versions").glob("[23].*/bin/python"))
    return [Path(sys.executable), *others]


def test_the_program_needs_nothing_but_a_python(program: Program, slurm: FakeSlurm) -> None:
    call = program.start(do="poll", jobs=[])
    assert json.loads(call.communicate()[0]) == {"ok": {"jobs": {}}}
    assert call.returncode == 0


def test_half_a_request_does_nothing(program: Program, slurm: FakeSlurm, tmp_path: Path) -> None:
    request = json.dumps({"do": "submit", **program.submission()}).encode()
    command = [sys.executable, str(write_runner(tmp_path)), "cluster"]
    for length in (0, 1, len(request) // 2, len(request) - 1):
        done = subprocess.run(command, input=request[:length], stdout=subprocess.PIPE, check=True)
        assert json.loads(done.stdout)["error"]["kind"] == "request"
    assert slurm.jobs == {}
    assert not program.work_dir.exists()


def test_a_cut_connection_does_not_stop_what_has_begun(program: Program, slurm: FakeSlurm) -> None:
    slurm.say("sbatch", acts=True, sleep=0.5, times=1)
    call = program.start(do="submit", **program.submission())
    wait_until(lambda: slurm.calls("sbatch"))
    assert call.stdout
    call.stdout.close()
    call.send_signal(signal.SIGHUP)
    assert call.wait(30) == 0
    assert program.record()["id"] == "101"


@pytest.mark.parametrize("text", ['{"do": "reboot"}', "{}", "[]", '"submit"'])
def test_an_unknown_request_is_none(text: str) -> None:
    assert "none of submit, poll" in answer(text.encode())["error"]["message"]


@pytest.mark.parametrize("missing", ["batch_folder", "units", "script"])
def test_a_request_that_lacks_something_is_told_so(program: Program, missing: str) -> None:
    request = program.submission()
    del request[missing]
    with pytest.raises(Failed, match=f"request: submit: KeyError: '{missing}'"):
        program.ask("submit", **request)


def test_a_python_that_is_too_old_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(write_runner(tmp_path)), run_name="__main__")
    assert exit_.value.code == 67
    assert capsys.readouterr().err == "Python 3.8 is too old: 3.9 or newer is needed\n"


@pytest.mark.parametrize("python", pythons(), ids=lambda python: python.parts[-3])
def test_pythons_of_all_ages(program: Program, slurm: FakeSlurm, python: Path, tmp_path: Path) -> None:
    command = [str(python), str(write_runner(tmp_path)), "cluster"]
    request = json.dumps({"do": "submit", **program.submission()}).encode()
    done = subprocess.run(command, input=request, capture_output=True)
    too_old = b"too old" in done.stderr
    assert done.returncode == (67 if too_old else 0)
    assert len(slurm.jobs) == (0 if too_old else 1)


def test_the_archives_name_tells_its_content() -> None:
    assert program_path("/work/") == f"/work/.fractal/{runner_name()}"


def test_paths_may_have_anything_in_them(program: Program, slurm: FakeSlurm) -> None:
    folder = str(program.step / "a b'\"$(reboot)\n; ü" / "0000-0123456789ab")
    reply = program.submit(batch_folder=folder)
    assert slurm.jobs["101"]["folder"] == f"{folder}/1" == reply["folder"]
