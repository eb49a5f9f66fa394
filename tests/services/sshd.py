"""Real SSH servers on the loopback interface, each for one ordinary user who is made and removed again."""

from __future__ import annotations

import json
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.daemons import Daemon, command_line, kill_all
from tests.services.ports import free_port
from tests.services.requirements import need, program
from tests.services.users import processes_of, temporary_user

PASSPHRASE = "open $(sesame)"
_CONF = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
AllowUsers {user}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
{more}
"""


class Sshd:
    """An SSH server for one user; it can be stopped, started, frozen, and its connections cut."""

    def __init__(
        self, folder: Path, user: pwd.struct_passwd, *, address: str = "127.0.0.1", more: str = ""
    ) -> None:
        """
        :param address: one of the loopback interface.
        :param more: lines for its configuration.
        """
        self.folder = folder
        self.user = user
        self.address = address
        self.port = free_port()
        self.key_file = folder / "key"
        self.locked_key_file = folder / "locked_key"
        self.foreign_key_file = folder / "foreign_key"
        conf = folder / "sshd_config"
        values = {"port": self.port, "address": self.address, "folder": folder, "user": user.pw_name}
        conf.write_text(_CONF.format(**values, more=more))
        self._daemon = Daemon([str(program("sshd")), "-D", "-e", "-f", str(conf)], log=folder / "sshd.log")
        make_key(folder / "host_key")
        make_key(self.key_file)
        make_key(self.locked_key_file, PASSPHRASE)
        make_key(self.foreign_key_file)  # lets nobody in
        public = [path.with_name(f"{path.name}.pub") for path in (self.key_file, self.locked_key_file)]
        (folder / "authorized_keys").write_text("".join(path.read_text() for path in public))

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.user.pw_name}@{self.address}:{self.port}"

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def known_hosts_line(self) -> str:
        return f"[{self.address}]:{self.port} {self.host_key}\n"

    def connection(self, *, host: str | None = None, login: str | None = None, **extra: Any) -> str:
        """Return the Airflow connection to it, as JSON; the extra has the user's key, unless given."""
        return json.dumps(
            {
                "conn_type": "ssh",
                "host": host or self.address,
                "port": None if host else self.port,
                "login": login or self.user.pw_name,
                "extra": extra or {"key_file": str(self.key_file)},
            }
        )

    def start(self) -> None:
        """Start it, or start it again."""
        self._daemon.start()
        self._daemon.wait_until(self._listens)

    def stop(self) -> None:
        """End it and all its connections."""
        self.thaw()
        self._daemon.kill()
        kill_all(processes_of(self.user.pw_uid))

    def is_running(self) -> bool:
        return self._daemon.is_running()

    def freeze(self) -> None:
        """Let it answer nothing any more; the system still takes connections in its name."""
        self._daemon.freeze()

    def thaw(self) -> None:
        if self._daemon.is_running():
            self._daemon.thaw()

    def drop_connections(self) -> None:
        """Cut all connections, in the middle of what they do; new ones are taken."""
        kill_all(self._serving())

    def connections(self) -> int:
        """Count the connections of users who are logged in."""
        return len([pid for pid in self._daemon.family() if "[priv]" in command_line(pid)])

    def sessions(self) -> list[str]:
        """Return the command lines of all that runs for the user."""
        return [line for pid in processes_of(self.user.pw_uid) if (line := command_line(pid))]

    def _serving(self) -> list[int]:
        """Return the processes that serve connections."""
        family = [pid for pid in self._daemon.family() if pid != self._daemon.pid]
        return [pid for pid in family if command_line(pid).startswith("sshd")]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0


@contextmanager
def running_sshd(*, shell: str = "/bin/bash", address: str = "127.0.0.1", more: str = "") -> Iterator[Sshd]:
    """
    Run an SSH server for a user of its own until the block ends; nothing of either is left then.

    :param shell: the user's login shell.
    :param address: one of the loopback interface; jump hosts are told apart by it.
    :param more: lines for the server's configuration.
    """
    need("sshd", "ssh-keygen", "useradd", root=True, install="openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks up its half that has no rights
    folder = Path(tempfile.mkdtemp(prefix="fractal-sshd-"))
    folder.chmod(0o755)
    try:
        with temporary_user(folder / "home", shell) as user:
            sshd = Sshd(folder, user, address=address, more=more)
            try:
                sshd.start()
                yield sshd
            finally:
                sshd.stop()
    finally:
        shutil.rmtree(folder)


def make_key(path: Path, passphrase: str = "") -> None:
    """Make a pair of keys."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True)
