"""SSH to a real sshd: keys, host keys, login shells, jump hosts; asked by a worker and by a triggerer alike."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.execution.slurm.ssh_transport import SshTransport
from fractal_airflow.execution.slurm.ssh_transport_async import AsyncSshTransport
from fractal_airflow.execution.slurm.transport import Transport
from tests.services.requirements import need, program
from tests.services.sshd import PASSPHRASE, Sshd, make_key, running_sshd
from tests.slurm.transports import InLoop, running_loop

Connect = Callable[[str], Transport]


@pytest.fixture(scope="module")
def login() -> Iterator[Sshd]:
    """A login node."""
    with running_sshd() as sshd:
        yield sshd


@pytest.fixture(scope="module")
def bastion() -> Iterator[Sshd]:
    """A machine on the way to the login node."""
    with running_sshd(address="127.0.0.2") as sshd:
        yield sshd


@pytest.fixture
def ssh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's empty ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(params=["worker", "triggerer"])
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes the transport for an Airflow connection, given as JSON."""
    with running_loop() as loop:
        made: list[Transport] = []

        def make(connection: str) -> Transport:
            monkeypatch.setenv("AIRFLOW_CONN_HPC_LOGIN", connection)
            worker = request.param == "worker"
            name = "hpc_login"
            made.append(SshTransport(name) if worker else InLoop(AsyncSshTransport(name), loop))
            return made[-1]

        yield make
        for transport in made:
            transport.close()


def test_a_known_host_lets_a_key_in(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    transport = connect(login.connection())
    assert transport.run(["id", "-un"]).stdout.decode().strip() == login.user.pw_name
    assert transport.where == login.name
    assert (ssh_folder / "known_hosts").read_text() == login.known_hosts_line


def test_known_hosts_may_be_hashed_without_a_port_or_elsewhere(
    login: Sshd, ssh_folder: Path, connect: Connect, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "hosts of the cluster"
    for line in (login.known_hosts_line, f"{login.address} {login.host_key}\n"):
        elsewhere.write_text(line)
        extra = {"key_file": str(login.key_file), "known_hosts": str(elsewhere)}
        assert connect(login.connection(**extra)).run(["true"]).code == 0
    elsewhere.write_text(login.known_hosts_line)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", elsewhere], check=True, capture_output=True)
    assert login.address not in elsewhere.read_text()
    assert connect(login.connection(**extra)).run(["true"]).code == 0
    elsewhere.write_text(f"another.host {login.host_key}\n")
    with pytest.raises(ResourceError, match="is not known"):
        connect(login.connection(**extra)).run(["true"])


def test_one_connection_serves_all_calls(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    transport = connect(login.connection())
    for _ in range(5):
        assert transport.run(["true"]).code == 0
    assert login.connections() == 1


def test_more_calls_at_once_than_sshd_allows_take_turns(
    login: Sshd, ssh_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    monkeypatch.setenv("AIRFLOW_CONN_HPC_LOGIN", login.connection())

    async def many() -> list[bytes]:
        transport = AsyncSshTransport("hpc_login")
        done = await asyncio.gather(*(transport.run(["echo", str(n)]) for n in range(40)))
        assert login.connections() == 1
        await transport.close()
        return [one.stdout for one in done]

    assert asyncio.run(many()) == [f"{n}\n".encode() for n in range(40)]


@pytest.mark.parametrize("name", ["private_key_passphrase", "passphrase", "password"])
def test_a_key_with_a_passphrase(login: Sshd, ssh_folder: Path, connect: Connect, name: str) -> None:
    extra = {"key_file": str(login.locked_key_file), "host_key": login.host_key}
    connection = json.loads(login.connection(**extra))
    (connection if name == "password" else connection["extra"])[name] = PASSPHRASE
    assert connect(json.dumps(connection)).run(["true"]).code == 0


def test_a_key_in_the_connection_itself(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    extra = {"private_key": login.locked_key_file.read_text(), "private_key_passphrase": PASSPHRASE}
    assert connect(login.connection(**extra, host_key=login.host_key)).run(["true"]).code == 0


def test_a_missing_passphrase(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    for extra in ({}, {"private_key_passphrase": "wrong"}):
        transport = connect(
            login.connection(key_file=str(login.locked_key_file), host_key=login.host_key, **extra)
        )
        with pytest.raises(
            ResourceError, match=r"locked_key of the SSH connection 'hpc_login' cannot be used"
        ):
            transport.run(["true"])


def test_a_key_file_that_is_not_there(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    transport = connect(login.connection(key_file="~/.ssh/nothing", host_key=login.host_key))
    with pytest.raises(
        ResourceError, match=r"\.ssh/nothing of the SSH connection 'hpc_login' cannot be read: No such"
    ):
        transport.run(["true"])


def test_a_file_that_is_no_key(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    transport = connect(login.connection(key_file="/etc/passwd", host_key=login.host_key))
    with pytest.raises(ResourceError, match="/etc/passwd of the SSH connection 'hpc_login' cannot be used"):
        transport.run(["true"])


def test_a_key_that_the_host_does_not_take(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    transport = connect(login.connection(key_file=str(login.foreign_key_file), host_key=login.host_key))
    with pytest.raises(ResourceError, match=r"refuses the user 'fractal-\w+': .*authorized_keys"):
        transport.run(["true"])


def test_an_unknown_user(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    extra = {"key_file": str(login.key_file), "host_key": login.host_key}
    with pytest.raises(ResourceError, match="refuses the user 'nobody-here'"):
        connect(login.connection(login="nobody-here", **extra)).run(["true"])


def test_a_host_that_nobody_knows(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    transport = connect(login.connection())
    with pytest.raises(
        ResourceError, match=r"host key of .* is not known .*known_hosts.*\[127\.0\.0\.1\]:\d+"
    ):
        transport.run(["true"])
    assert not (ssh_folder / "known_hosts").exists()


def test_a_host_with_another_key(login: Sshd, ssh_folder: Path, connect: Connect, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    with pytest.raises(ResourceError, match=r"host key of .* is not the known one.*host_key"):
        connect(login.connection(key_file=str(login.key_file), host_key=other)).run(["true"])
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line.replace(login.host_key, other))
    with pytest.raises(ResourceError, match=r"host key of .* is not the known one.*known_hosts"):
        connect(login.connection()).run(["true"])


@pytest.mark.parametrize(
    "key", ["garbage", "abcd", "login.node ssh-ed25519 AAAAC3Nz", "ssh-ed25519 AAAA~", " "]
)
def test_a_host_key_that_is_none_is_named(login: Sshd, connect: Connect, key: str) -> None:
    with pytest.raises(ResourceError, match=r"host_key of the SSH connection 'hpc_login' is no public key"):
        connect(login.connection(key_file=str(login.key_file), host_key=key)).run(["true"])


@pytest.mark.parametrize("name", ["no_host_key_check", "allow_host_key_change"])
def test_an_administrator_may_do_without_host_keys(
    login: Sshd, ssh_folder: Path, connect: Connect, tmp_path: Path, name: str
) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    wrong = f"[{login.address}]:{login.port} {other}"
    (ssh_folder / "known_hosts").write_text(wrong)
    transport = connect(login.connection(key_file=str(login.key_file), **{name: "true"}))
    assert transport.run(["true"]).code == 0
    assert (ssh_folder / "known_hosts").read_text() == wrong


def test_a_connection_that_airflow_does_not_have(ssh_folder: Path, connect: Connect) -> None:
    transport = connect("")
    with pytest.raises(ResourceError, match="There is no Airflow connection 'hpc_login'"):
        transport.run(["true"])


def test_a_connection_of_another_type(ssh_folder: Path, connect: Connect) -> None:
    with pytest.raises(ResourceError, match="'hpc_login' is of type 'http', not 'ssh'"):
        connect(json.dumps({"conn_type": "http", "host": "x"})).run(["true"])
    with pytest.raises(ResourceError, match="has no host"):
        connect(json.dumps({"conn_type": "ssh"})).run(["true"])


def test_a_login_shell_that_talks(connect: Connect, ssh_folder: Path) -> None:
    with running_sshd() as sshd:
        home = Path(sshd.user.pw_dir)
        for name in (".bashrc", ".profile", ".bash_profile"):
            (home / name).write_text(
                "echo Welcome to the cluster; printf 'no newline'; echo Maintenance! >&2\n"
            )
        transport = connect(sshd.connection(key_file=str(sshd.key_file), host_key=sshd.host_key))
        done = transport.run(["sh", "-c", "cat; echo err >&2"], stdin=b"input\0")
        assert (done.stdout, done.stderr) == (b"input\0", b"err\n")
        transport.put(str(home / "file"), b"content")
        assert transport.get(str(home / "file")) == b"content"


@pytest.mark.parametrize("shell", ["tcsh", "fish", "dash"])
def test_any_login_shell(connect: Connect, ssh_folder: Path, shell: str) -> None:
    need(shell, install=shell)
    with running_sshd(shell=str(program(shell))) as sshd:
        transport = connect(sshd.connection(key_file=str(sshd.key_file), host_key=sshd.host_key))
        arguments = ["it's", '"$HOME"', "!!", "new\nline", "$(id)", "ü\\"]
        done = transport.run(["printf", "%s|", *arguments], stdin=b"")
        assert done.stdout.decode() == "|".join(arguments) + "|"


def test_a_user_without_a_shell(connect: Connect, ssh_folder: Path) -> None:
    with running_sshd(shell="/usr/sbin/nologin") as sshd:
        transport = connect(sshd.connection(key_file=str(sshd.key_file), host_key=sshd.host_key))
        with pytest.raises(ResourceError, match=r"login shell on .* does not run commands: .*not available"):
            transport.run(["true"])


def test_a_machine_in_maintenance_is_waited_for(connect: Connect, ssh_folder: Path) -> None:
    with running_sshd(shell="/bin/sh") as sshd:
        home = Path(sshd.user.pw_dir)
        (home / ".ssh").mkdir()
        (home / ".ssh" / "rc").write_text("true\n")
        script = sshd.folder / "maintenance"
        script.write_text("#!/bin/sh\necho 'System is going down'\nexit 254\n")
        script.chmod(0o755)
        (sshd.folder / "sshd_config").open("a").write(f"ForceCommand {script}\n")
        sshd.stop()
        sshd.start()
        transport = connect(sshd.connection(key_file=str(sshd.key_file), host_key=sshd.host_key))
        with pytest.raises(
            ClusterUnreachableError, match="starts no commands right now: System is going down"
        ):
            transport.run(["true"])


def ssh_config(login: Sshd, bastion: Sshd, *, jump: str = "bastion") -> str:
    return f"""
Host hpc
    HostName {login.address}
    Port {login.port}
    ProxyJump {jump}
Host bastion
    HostName {bastion.address}
    Port {bastion.port}
    User {bastion.user.pw_name}
    IdentityFile {bastion.key_file}
"""


def test_a_jump_host_of_the_users_configuration(
    login: Sshd, bastion: Sshd, ssh_folder: Path, connect: Connect
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line + bastion.known_hosts_line)
    (ssh_folder / "config").write_text(ssh_config(login, bastion))
    transport = connect(login.connection(host="hpc"))
    assert transport.run(["id", "-un"]).stdout.decode().strip() == login.user.pw_name
    assert transport.run(["cat"], stdin=bytes(3_000_000)).stdout == bytes(3_000_000)
    assert (bastion.connections(), login.connections()) == (1, 1)
    transport.close()


def test_a_jump_host_with_user_and_port(
    login: Sshd, bastion: Sshd, ssh_folder: Path, connect: Connect
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line + bastion.known_hosts_line)
    jump = f"{bastion.user.pw_name}@{bastion.address}:{bastion.port}"
    config = (
        ssh_config(login, bastion, jump=jump)
        + f"Host {bastion.address}\n    IdentityFile {bastion.key_file}\n"
    )
    (ssh_folder / "config").write_text(config)
    assert connect(login.connection(host="hpc")).run(["true"]).code == 0


def test_a_jump_hosts_key_is_checked_too(
    login: Sshd, bastion: Sshd, ssh_folder: Path, connect: Connect
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    (ssh_folder / "config").write_text(ssh_config(login, bastion))
    with pytest.raises(ResourceError, match=rf"host key of {bastion.user.pw_name}@.* is not known"):
        connect(login.connection(host="hpc")).run(["true"])


def test_a_jump_host_that_leads_nowhere(
    login: Sshd, bastion: Sshd, ssh_folder: Path, connect: Connect
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line + bastion.known_hosts_line)
    (ssh_folder / "config").write_text(ssh_config(login, bastion).replace(f"Port {login.port}", "Port 1"))
    with pytest.raises(ClusterUnreachableError, match=r"No SSH connection to .*@hpc:1"):
        connect(login.connection(host="hpc")).run(["true"])
    (ssh_folder / "config").write_text("Host *\n    ProxyJump hpc\n")
    with pytest.raises(ResourceError, match="leads in a circle"):
        connect(login.connection(host="hpc")).run(["true"])


def test_a_proxy_command_of_the_users_configuration(login: Sshd, ssh_folder: Path, connect: Connect) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    script = ssh_folder / "proxy.py"
    script.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    (ssh_folder / "config").write_text(
        f"Host hpc\n HostName {login.address}\n Port {login.port}\n ProxyCommand python3 {script} %h %p\n"
    )
    assert connect(login.connection(host="hpc")).run(["echo", "well"]).stdout == b"well\n"


def test_the_tasks_log_stays_quiet(
    login: Sshd, ssh_folder: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    (ssh_folder / "known_hosts").write_text(login.known_hosts_line)
    transport = connect(login.connection())
    with caplog.at_level(logging.INFO):
        transport.run(["echo", "secret"])
        login.drop_connections()
        transport.run(["echo", "secret"])
    assert [
        record.getMessage() for record in caplog.records if "ssh" in record.name or "paramiko" in record.name
    ] == []
