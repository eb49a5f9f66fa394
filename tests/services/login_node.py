"""The login node of the tests' cluster: an sshd that lets one ordinary user in with a key."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemons import command_line, kill_all
from tests.services.requirements import need, program
from tests.services.slurm import SlurmCluster
from tests.services.sshd import Sshd
from tests.services.users import open_to

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


class LoginNode(Sshd):
    """The sshd of a login node: the user who comes in is a submit host's."""

    def __init__(self, folder: Path, user: pwd.struct_passwd, environment: Mapping[str, str]) -> None:
        """:param environment: what the commands of users need."""
        self.gates = folder / "gates"
        self.environment = {**environment, "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"}
        variables = " ".join(f"{name}={value}" for name, value in self.environment.items())
        folder.mkdir(mode=0o755)
        super().__init__(folder, user, more=f"MaxSessions 100\nSetEnv {variables}")
        open_to(self.gates, user)
        self._write_sbatch()

    def stop(self) -> None:
        """End it with all its connections; commands that run on the node go on, as sshd lets them."""
        self.thaw()
        serving = self._serving()
        self._daemon.stop()
        kill_all(serving)

    def commands(self) -> list[int]:
        """Return the processes of the node's user that its connections have started."""
        return [pid for pid in self._daemon.family() if not command_line(pid).startswith("sshd")]

    def end(self) -> None:
        """End it with all that its connections have started."""
        self.thaw()
        self._daemon.kill()

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

    def _write_sbatch(self) -> None:
        wrapper = self.folder / "bin" / "sbatch"
        wrapper.parent.mkdir()
        wrapper.write_text(_SBATCH.format(gates=self.gates, sbatch=program("sbatch")))
        wrapper.chmod(0o755)


@contextmanager
def running_login_node(cluster: SlurmCluster) -> Iterator[LoginNode]:
    """Run the login node of a cluster until the block ends."""
    need("sshd", "ssh-keygen", root=True, install="openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks up its half that has no rights
    node = LoginNode(cluster.folder / "login", cluster.user, cluster.environment)
    node.start()
    try:
        yield node
    finally:
        node.end()
