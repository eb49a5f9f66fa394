"""SSH connections that break, hang or come late: always a word in time, and the next call begins anew."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError
from fractal_airflow.execution.slurm.ssh_transport import SshTransport
from fractal_airflow.execution.slurm.ssh_transport_async import AsyncSshTransport
from fractal_airflow.execution.slurm.transport import Transport
from tests.services.sshd import Sshd, running_sshd
from tests.slurm.transports import InLoop, running_loop


@pytest.fixture(scope="module")
def running_login() -> Iterator[Sshd]:
    with running_sshd() as sshd:
        yield sshd


@pytest.fixture
def login(running_login: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sshd]:
    """A login node, whose Airflow connection is ``hpc_login``; what a test breaks is mended after it."""
    sshd = running_login
    monkeypatch.setenv("HOME", str(tmp_path))
    extra = {"key_file": str(sshd.key_file), "host_key": sshd.host_key}
    monkeypatch.setenv("AIRFLOW_CONN_HPC_LOGIN", sshd.connection(**extra))
    yield sshd
    sshd.stop()
    sshd.start()


@pytest.fixture(params=["worker", "triggerer"])
def transport(request: pytest.FixtureRequest, login: Sshd) -> Iterator[Transport]:
    """A transport to it."""
    if request.param == "worker":
        transport = SshTransport("hpc_login")
        yield transport
        transport.close()
    else:
        with running_loop() as loop:
            looped = InLoop(AsyncSshTransport("hpc_login"), loop)
            yield looped
            looped.close()


def later(seconds: float, action: object) -> threading.Timer:
    timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
    timer.start()
    return timer


def wait_until_alone(login: Sshd) -> None:
    """Wait until nothing runs for the user but the servers of its connections."""
    deadline = time.monotonic() + 10
    while any(not line.startswith("sshd") for line in login.sessions()):
        assert time.monotonic() < deadline, login.sessions()
        time.sleep(0.05)


def test_a_connection_that_is_cut_in_the_middle_of_a_command(login: Sshd, transport: Transport) -> None:
    transport.run(["true"])
    later(0.5, login.drop_connections)
    with pytest.raises(ClusterUnreachableError, match=f"connection to {login.name} broke in the middle"):
        transport.run(["sleep", "1234"])
    assert transport.run(["echo", "again"]).stdout == b"again\n"


def test_a_connection_that_was_cut_between_two_commands(login: Sshd, transport: Transport) -> None:
    for _ in range(3):
        assert transport.run(["echo", "well"]).stdout == b"well\n"
        login.drop_connections()
    assert login.connections() <= 1


def test_a_cut_in_the_middle_of_the_input_leaves_the_file_as_it_was(
    login: Sshd, transport: Transport
) -> None:
    path = str(Path(login.user.pw_dir) / "file")
    transport.put(path, b"as it was")
    later(0.2, login.drop_connections)
    with pytest.raises(ClusterUnreachableError, match="broke in the middle"):
        transport.put(path, bytes(300_000_000))
    assert transport.get(path) == b"as it was"


def test_a_server_that_is_stopped_and_started(login: Sshd, transport: Transport) -> None:
    transport.run(["true"])
    login.stop()
    for _ in range(2):
        with pytest.raises(ClusterUnreachableError, match=f"No SSH connection to {login.name}"):
            transport.run(["true"])
    login.start()
    assert transport.run(["echo", "back"]).stdout == b"back\n"


def test_a_server_that_freezes(login: Sshd, transport: Transport) -> None:
    transport.run(["true"])
    login.freeze()
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError, match="within 2 s"):
        transport.run(["true"], deadline_s=2)
    assert time.monotonic() - began < 3
    login.thaw()
    assert transport.run(["echo", "back"]).stdout == b"back\n"


def test_a_server_that_freezes_before_the_login(login: Sshd, transport: Transport) -> None:
    login.freeze()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(ClusterUnreachableError, match="within 1 s"):
            transport.run(["true"], deadline_s=1)
    assert time.monotonic() - began < 3
    login.thaw()
    assert transport.run(["echo", "back"]).stdout == b"back\n"


def test_a_server_that_says_nothing(
    transport: Transport, login: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login_port, login.port = login.port, silent.getsockname()[1]
        monkeypatch.setenv(
            "AIRFLOW_CONN_HPC_LOGIN", login.connection(key_file=str(login.key_file), host_key=login.host_key)
        )
        login.port = login_port
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match="within 1 s"):
            transport.run(["true"], deadline_s=1)
        assert time.monotonic() - began < 2
        transport.close()


def test_the_channel_of_a_late_command_is_closed(login: Sshd, transport: Transport) -> None:
    for _ in range(12):  # sshd allows ten on a connection
        with pytest.raises(ClusterUnreachableError, match=r"within 0\.2 s"):
            transport.run(["sleep", "5"], deadline_s=0.2)
    assert transport.run(["true"]).code == 0
    wait_until_alone(login)


def test_a_command_that_is_killed_over_there(login: Sshd, transport: Transport) -> None:
    with pytest.raises(ClusterUnreachableError, match="was ended from outside"):
        transport.run(["sh", "-c", "kill -9 $PPID"])


def test_calls_beside_one_that_hangs_go_on(login: Sshd) -> None:
    async def story() -> None:
        transport = AsyncSshTransport("hpc_login")
        hanging = asyncio.create_task(transport.run(["sleep", "1234"], deadline_s=2))
        await asyncio.sleep(0.5)
        for _ in range(3):
            assert (await transport.run(["echo", "well"])).stdout == b"well\n"
        with pytest.raises(ClusterUnreachableError, match="within 2 s"):
            await hanging
        assert login.connections() == 1
        await transport.close()

    asyncio.run(story())


def test_a_triggerer_notices_a_server_that_is_gone_before_the_deadline(
    login: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_airflow.execution.slurm.ssh_transport_async.KEEPALIVE_S", 0.5)

    async def story() -> None:
        transport = AsyncSshTransport("hpc_login")
        call = asyncio.create_task(transport.run(["sleep", "1234"], deadline_s=100))
        await asyncio.sleep(1)
        login.freeze()
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match="broke in the middle"):
            await call
        assert time.monotonic() - began < 10
        await transport.close()

    asyncio.run(story())


def test_whoever_is_cancelled_leaves_the_connection_to_others(login: Sshd) -> None:
    async def story() -> None:
        transport = AsyncSshTransport("hpc_login")
        first = asyncio.create_task(transport.run(["true"]))
        second = asyncio.create_task(transport.run(["echo", "well"]))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second).stdout == b"well\n"
        with pytest.raises(asyncio.CancelledError):
            await first
        assert login.connections() == 1
        await transport.close()

    asyncio.run(story())
