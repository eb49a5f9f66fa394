"""Commands and files on a cluster: the same over SSH and on this machine, waiting and asynchronous."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, WorkFolderError
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.slurm.transport import Transport, make_async_transport, make_transport
from tests.services.sshd import Sshd, running_sshd
from tests.slurm.transports import InLoop, running_loop

ODD = [
    "two words",
    "it's",
    '"quoted"',
    "$(touch /tmp/injected)",
    "`id`",
    "$HOME",
    "new\nline\n",
    "\ttab",
    "back\\slash\\n",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "~",
    "!history",
    "!!",
    "#",
    "-n",
    "--",
    "a;b&c|d>e<f",
    "",
    "ünï→cödé 🔬",
    "byte \udcff",
    "%s",
    "=equals",
    "\r",
    " ",
]
PRINT_ARGUMENTS = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


@pytest.fixture(scope="module")
def login() -> Iterator[Sshd]:
    """A login node."""
    with running_sshd() as sshd:
        yield sshd


@pytest.fixture
def config(login: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ResourceConfig:
    """A resource at the other end of an SSH connection."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(
        "AIRFLOW_CONN_LOGIN", login.connection(key_file=str(login.key_file), host_key=login.host_key)
    )
    return ResourceConfig(type="slurm_ssh", work_dir=Path("/work"), ssh_conn_id="login")


@pytest.fixture(params=["ssh", "ssh async", "local", "local async"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """One of the transports."""
    kind, _, asynchronous = request.param.partition(" ")
    config = (
        request.getfixturevalue("config")
        if kind == "ssh"
        else ResourceConfig(type="slurm", work_dir=Path("/work"))
    )
    if not asynchronous:
        transport = make_transport(config)
        yield transport
        transport.close()
    else:
        with running_loop() as loop:
            looped = InLoop(make_async_transport(config), loop)
            yield looped
            looped.close()


@pytest.fixture
def folder(login: Sshd, tmp_path: Path) -> Path:
    """A folder that the user of the login node can write, with an odd name."""
    return login.folder / "home" / tmp_path.name / "it's $(a) földer\n"


def test_any_argument_arrives_as_it_is(transport: Transport) -> None:
    done = transport.run(["python3", "-c", PRINT_ARGUMENTS, *ODD])
    assert (done.code, done.stderr) == (0, b"")
    assert done.stdout.decode("utf-8", "surrogateescape").split("\0") == ODD
    assert not Path("/tmp/injected").exists()


def test_exit_codes_and_outputs_are_the_commands_own(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert transport.run(["sh", "-c", "kill -9 $$"]).code == 137
    assert transport.run(["/nowhere/sbatch"]).code == 127
    assert transport.run(["/etc/passwd"]).code == 126


def test_input_ends(transport: Transport) -> None:
    assert transport.run(["cat"]).stdout == b""
    assert transport.run(["cat"], stdin=b"one\0two\xff").stdout == b"one\0two\xff"


def test_a_command_need_not_read_its_input(transport: Transport) -> None:
    assert transport.run(["true"], stdin=bytes(10_000_000)).code == 0


def test_fifty_megabytes_come_and_go_in_fair_time(transport: Transport) -> None:
    content = bytes(range(256)) * 200_000
    began = time.monotonic()
    done = transport.run(["cat"], stdin=content)
    assert done.stdout == content
    assert time.monotonic() - began < 30


def test_both_outputs_may_be_long(transport: Transport) -> None:
    script = "import sys; sys.stderr.write('e' * 5_000_000); sys.stdout.write('o' * 5_000_000)"
    done = transport.run(["python3", "-c", script])
    assert (len(done.stdout), len(done.stderr)) == (5_000_000, 5_000_000)


def test_a_file_is_put_got_and_added_to(transport: Transport, folder: Path) -> None:
    path = str(folder / "deep" / "-f*'le\n")
    content = bytes(range(256)) * 1000
    transport.put(path, content)
    assert transport.get(path) == content
    transport.put(path, b"new")
    transport.append(path, b" and\n")
    transport.append(path, b"more")
    assert transport.get(path) == b"new and\nmore"
    transport.append(f"{path}2", b"first")
    assert transport.get(f"{path}2") == b"first"
    transport.put(path, b"")
    assert transport.get(path) == b""
    assert transport.run(["ls", "-A", str(folder / "deep")]).stdout.count(b".part") == 0


def test_a_file_that_is_not_there(transport: Transport, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"(?s)There is no .*nothing on "):
        transport.get(str(folder / "nothing"))


def test_a_file_that_cannot_be_written(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "in a file")
    with pytest.raises(WorkFolderError, match=r"in a file cannot be written on .*: mkdir: [^\n]*work_dir"):
        transport.put(path, b"content")
    with pytest.raises(WorkFolderError, match=r"cannot be written"):
        transport.append(path, b"content")
    with pytest.raises(WorkFolderError, match=r"/proc cannot be read on .*: cat: /proc: Is a directory"):
        transport.get("/proc")


def test_a_full_disk_leaves_the_file_as_it_was(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "cat > /dev/full"], stdin=b"content")
    assert done.code != 0
    with pytest.raises(WorkFolderError, match="cannot be written"):
        transport.put("/dev/full/file", b"content")


def test_a_command_that_hangs_passes_its_deadline(transport: Transport) -> None:
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError, match=r"within 1 s|in time"):
        transport.run(["sleep", "1234"], deadline_s=1)
    assert time.monotonic() - began < 4
    assert transport.run(["echo", "well"]).stdout == b"well\n"


def test_a_program_that_reads_slowly_passes_its_deadline(transport: Transport) -> None:
    with pytest.raises(ClusterUnreachableError):
        transport.run(["sleep", "1234"], stdin=bytes(50_000_000), deadline_s=1)


def test_an_impossible_argument_is_refused(transport: Transport) -> None:
    with pytest.raises(ValueError, match="NUL"):
        transport.run(["echo", "a\0b"])
    with pytest.raises(ValueError, match="too long"):
        transport.run(["echo", *["x" * 10_000] * 500])


def test_airflows_variables_do_not_reach_the_command(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    printed = transport.run(["env"]).stdout
    assert b"PATH=" in printed
    assert b"AIRFLOW" not in printed
