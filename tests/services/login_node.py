"""The login node of the tests' cluster: an sshd that lets one ordinary user in with a key."""

from __future__ import annotations

import json
import pwd
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemons import Daemon, command_line, kill_all
from tests.services.ports import free_port
from tests.services.requirements import need, program
from tests.services.slurm import SlurmCluster
from tests.services.users import open_to

_CONF = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
AllowUsers {user}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
SetEnv {environment}
"""
_SBATCH = """\
#!/bin/sh
# Is stopped, before or after the real one, as long as a test wants it.
hold() {{
    [ -e "{gates}/$1" ] || return
    : >"{gates}/$1.$$"
    while [ -e "{gates}/$1" ]; do sleep 0.05; done
}}
hold before
{sbatch} "$@"
code=$?
hold after
exit $code
"""


class LoginNode:
    """An sshd, which can be stopped and started; the user who comes in is a submit host's."""

    def __init__(self, folder: Path, user: pwd.struct_passwd, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.user = user
        self.gates = folder / "gates"
        self.environment = {**environment, "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"}
        self.port = free_port()
        conf = folder / "sshd_config"
        command = [str(program("sshd")), "-D", "-e", "-f", str(conf)]
        self.sshd = Daemon(command, log=folder / "sshd.log")

    def start(self) -> None:
        """Make the keys, and start."""
        self.folder.mkdir(mode=0o755)
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks up its half that has no rights
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(command, check=True)
        self._write_sbatch()
        environment = " ".join(f"{name}={value}" for name, value in self.environment.items())
        conf = _CONF.format(
            folder=self.folder, port=self.port, user=self.user.pw_name, environment=environment
        )
        (self.folder / "sshd_config").write_text(conf)
        self.go_on()

    def stop(self) -> None:
        """End it with all its connections; commands that run on the node go on, as sshd lets them."""
        self.cut_connections(also=[self.sshd.pid])
        assert self.sshd.process is not None
        self.sshd.process.wait()

    def go_on(self) -> None:
        """Start again after :meth:`stop`."""
        self.sshd.start()
        self.sshd.wait_until(self._listens)

    def cut_connections(self, also: list[int] | None = None) -> None:
        """Cut all connections; new ones are taken."""
        family = [pid for pid in self.sshd.family() if pid != self.sshd.pid]
        kill_all([*(also or []), *(pid for pid in family if command_line(pid).startswith("sshd: "))])

    def commands(self) -> list[int]:
        """Return the processes of the node's user that its connections have started."""
        return [pid for pid in self.sshd.family() if not command_line(pid).startswith("sshd: ")]

    def end(self) -> None:
        """End it with all that runs on the node."""
        self.sshd.kill()

    @contextmanager
    def held_sbatch(self, when: str) -> Iterator[Callable[[], list[Path]]]:
        """
        While the block runs, every ``sbatch`` on the node waits, ``before`` or ``after`` it has submitted.

        :return: a function that returns an entry for each that has come so far.
        """
        self.release()
        (self.gates / when).touch()
        try:
            yield lambda: list(self.gates.glob(f"{when}.*"))
        finally:
            self.release()

    def release(self) -> None:
        """Let every ``sbatch`` go on."""
        for gate in self.gates.iterdir():
            gate.unlink(missing_ok=True)

    def connection(self) -> str:
        """Return the Airflow connection to it, as JSON."""
        host_key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        return json.dumps(
            {
                "conn_type": "ssh",
                "host": "127.0.0.1",
                "port": self.port,
                "login": self.user.pw_name,
                "extra": {"key_file": str(self.folder / "user_key"), "host_key": host_key},
            }
        )

    def _write_sbatch(self) -> None:
        open_to(self.gates, self.user)
        wrapper = self.folder / "bin" / "sbatch"
        wrapper.parent.mkdir()
        wrapper.write_text(_SBATCH.format(gates=self.gates, sbatch=program("sbatch")))
        wrapper.chmod(0o755)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_login_node(cluster: SlurmCluster) -> Iterator[LoginNode]:
    """Run the login node of a cluster until the block ends."""
    need("sshd", "ssh-keygen", root=True, install="openssh-server")
    node = LoginNode(cluster.folder / "login", cluster.user, cluster.environment)
    node.start()
    try:
        yield node
    finally:
        node.end()
