from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fractal_airflow.exceptions import (
    ClusterBusyError,
    ClusterUnreachableError,
    ControllerError,
    FractalAirflowError,
    ResourceError,
    SubmissionError,
    WorkFolderError,
)
from fractal_airflow.execution.archive import program_path, runner_archive
from fractal_airflow.execution.slurm.cluster import AsyncCluster, Cluster
from fractal_airflow.execution.slurm.local_transport import LocalTransport
from fractal_airflow.execution.slurm.messages import JobRef, JobStatus, PollItem, Submitted
from fractal_airflow.execution.slurm.transport import AsyncTransport, Completed, Transport

WORK_DIR = "/shared/work"


class Scripted(Transport):
    """A transport whose answers are known beforehand; what it was asked is in ``asked``."""

    where = "me@login:22"

    def __init__(self, *answers: Completed) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, object]] = []
        self.written: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = 0) -> Completed:
        self.asked.append(json.loads(stdin))
        return self._answers.pop(0)

    def put(self, path: str, content: bytes, *, deadline_s: float = 0) -> None:
        self.written[path] = content

    def close(self) -> None:
        pass


class AsyncScripted(AsyncTransport):
    where = "me@login:22"

    def __init__(self, *answers: Completed) -> None:
        self.scripted = Scripted(*answers)

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = 0) -> Completed:
        return self.scripted.run(argv, stdin=stdin, deadline_s=deadline_s)

    async def put(self, path: str, content: bytes, *, deadline_s: float = 0) -> None:
        self.scripted.put(path, content)

    async def close(self) -> None:
        pass


def ok(**reply: object) -> Completed:
    return Completed(0, json.dumps({"ok": reply}).encode() + b"\n", b"")


def failed(**error: object) -> Completed:
    return Completed(0, json.dumps({"error": error}).encode() + b"\n", b"")


def cluster(*answers: Completed) -> tuple[Cluster, Scripted]:
    transport = Scripted(*answers)
    return Cluster(transport, WORK_DIR), transport


def error_of(answer: Completed) -> FractalAirflowError:
    with pytest.raises(FractalAirflowError) as raised:
        cluster(answer)[0].poll([])
    return raised.value


def test_all_jobs_are_asked_about_in_one_call() -> None:
    running = {"state": "RUNNING", "nodes": "n1", "restarts": None, "done": 3, "offset": 120, "later": "?"}
    gone = {"state": None, "source": None, "exit": None, "offset": 7}
    asked, transport = cluster(ok(jobs={"12": running, "13": gone}))

    statuses = asked.poll([PollItem("12", "/w/1", 20), PollItem("13", "/w/2")])

    assert statuses == {
        "12": JobStatus("RUNNING", nodes="n1", done=3, offset=120),
        "13": JobStatus(None, offset=7),
    }
    jobs = [{"id": "12", "folder": "/w/1", "offset": 20}, {"id": "13", "folder": "/w/2", "offset": 0}]
    assert transport.asked == [{"do": "poll", "jobs": jobs}]


def test_the_program_is_brought_to_a_cluster_that_has_none() -> None:
    asked, transport = cluster(Completed(66, b"", b""), ok(jobs={}))

    assert asked.poll([]) == {}
    assert transport.written == {program_path(WORK_DIR): runner_archive()}


def test_a_program_that_does_not_stay_there_is_an_error() -> None:
    asked, _ = cluster(Completed(66, b"", b""), Completed(66, b"", b""))
    with pytest.raises(WorkFolderError, match=r"me@login:22: the file .* is gone as soon as it is written"):
        asked.poll([])


def test_a_triggerer_asks_in_the_same_words() -> None:
    async def ask() -> tuple[dict[str, JobStatus], AsyncScripted]:
        transport = AsyncScripted(Completed(66, b"", b""), ok(jobs={"12": {"state": "PENDING"}}))
        return await AsyncCluster(transport, WORK_DIR).poll([PollItem("12", "/w/1")]), transport

    statuses, transport = asyncio.run(ask())

    assert statuses == {"12": JobStatus("PENDING")}
    assert list(transport.scripted.written) == [program_path(WORK_DIR)]


def test_a_submission_is_a_job_or_needs_none() -> None:
    job = {"id": "12", "name": "measure-a-b", "adopted": False}
    reply = {"folder": "/w/1", "count": 4, "done": 1, "offset": 90, "complete": False, "job": job}
    assert cluster(ok(**reply))[0].submit({}) == Submitted("/w/1", 4, JobRef("12", "measure-a-b"), 1, 90)

    complete = {**reply, "done": 4, "complete": True, "job": None}
    assert cluster(ok(**complete))[0].submit({}) == Submitted("/w/1", 4, None, 4, 90)


def test_what_a_shell_prints_before_the_reply_is_no_part_of_it() -> None:
    reply = ok(jobs={})
    asked, _ = cluster(Completed(0, b"Welcome!\n{}\n" + reply.stdout, b""))
    assert asked.poll([]) == {}


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            failed(kind="controller", message="squeue says: no"),
            ControllerError,
            "me@login:22: squeue says: no",
        ),
        (failed(kind="busy", message="sbatch says: full"), ClusterBusyError, "sbatch says: full"),
        (failed(kind="folder", message="/w cannot be written"), WorkFolderError, "Make room"),
        (failed(kind="setup", message="sbatch is not found"), ResourceError, "sbatch is not found"),
        (failed(kind="request", message="half a request"), ResourceError, "half a request"),
        (Completed(68, b"", b""), ResourceError, "no Python >= 3.9 among python3, .*Set `python`"),
        (
            Completed(1, b"", b"Traceback: oh no"),
            ResourceError,
            "failed there .exit code 1.: Traceback: oh no",
        ),
        (
            Completed(2, b"", b"sh: 1: Cannot fork"),
            ClusterUnreachableError,
            "starts no programs right now: sh: 1: Cannot fork",
        ),
        (Completed(0, b"", b""), ClusterUnreachableError, "the reply was cut off"),
        (Completed(0, b'{"ok": {"jo', b""), ClusterUnreachableError, "the reply was cut off"),
        (Completed(137, b"", b"Killed"), ClusterUnreachableError, "cut off .exit code 137.. Killed"),
    ],
)
def test_every_bad_answer_is_an_error_of_its_own(
    answer: Completed, kind: type[FractalAirflowError], words: str
) -> None:
    error = error_of(answer)
    assert type(error) is kind
    assert error_of(answer).args[0]
    with pytest.raises(kind, match=words):
        raise error


def test_a_refusal_has_the_words_of_slurm_and_the_option_that_caused_it() -> None:
    said = "sbatch says: sbatch: error: invalid partition specified: nope"
    error = error_of(failed(kind="refused", message=said, option="partition"))
    assert isinstance(error, SubmissionError)
    assert str(error) == f"me@login:22: {said}. The option that caused it: partition"


def test_a_cluster_may_say_how_long_to_wait() -> None:
    error = error_of(failed(kind="controller", message="in doubt", pause_s=21.5))
    assert isinstance(error, ControllerError)
    assert error.pause_s == 21.5


def fake_python(folder: Path, name: str, lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which Pythons are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "cat", "wc", "mv", "rm"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def answering(work_dir: Path, *, python: str | None = None, own_python: str = "") -> str:
    """Ask for the results of nothing; return which file says that it was asked, of those in the work folder."""
    asked = Cluster(LocalTransport(), str(work_dir), python)
    asked.ask({"do": "results", "folder": str(work_dir), "count": 0}, own_python=own_python)
    return (work_dir / "asked").read_text()


def real_python(work_dir: Path, name: str) -> str:
    return f'printf %s {name} > {work_dir}/asked; exec {sys.executable} "$@"'


def test_the_python_of_the_configuration_comes_first(tmp_path: Path, pythons: Path) -> None:
    fake_python(pythons, "python3", real_python(tmp_path, "usual"))
    fake_python(tmp_path / "own", "python", real_python(tmp_path, "configured"))

    assert answering(tmp_path, python=str(tmp_path / "own" / "python")) == "configured"


def test_pythons_that_are_too_old_or_cannot_be_started_are_passed_over(tmp_path: Path, pythons: Path) -> None:
    fake_python(pythons, "python3", "exit 67")
    fake_python(pythons, "python3.13", "exit 126")
    fake_python(pythons, "python3.11", real_python(tmp_path, "python3.11"))

    assert answering(tmp_path) == "python3.11"


def test_the_python_of_a_task_is_the_last_resort_and_is_remembered(tmp_path: Path, pythons: Path) -> None:
    fake_python(pythons, "python3", "exit 67")
    fake_python(tmp_path / "a b", "python", real_python(tmp_path, "own"))
    own = str(tmp_path / "a b" / "python")

    with pytest.raises(ResourceError, match=r"no Python >= 3\.9"):
        answering(tmp_path)
    assert answering(tmp_path, own_python=own) == "own"
    (tmp_path / "asked").unlink()
    assert answering(tmp_path) == "own"
