"""SLURM's accounting: slurmdbd with a MariaDB of our own, so that ``sacct`` knows jobs that have ended."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
from pathlib import Path

from tests.services.daemons import Daemon
from tests.services.ports import free_ports
from tests.services.requirements import need, program

PACKAGES = "slurmdbd mariadb-server"
ACCOUNT = "lab"

_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""
_USER = """\
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
"""


class Accounting:
    """slurmdbd and its database, in the folder of a cluster whose munge runs."""

    def __init__(self, folder: Path) -> None:
        need("slurmdbd", "mariadbd", "mariadb-install-db", root=True, install=PACKAGES)
        self.folder = folder
        self._dbd_port, self._database_port = free_ports(2)
        self._password = secrets.token_hex(16)
        data = folder / "database"
        self.database = Daemon(
            [
                str(program("mariadbd")),
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={data}/socket",
                f"--pid-file={data}/pid",
                f"--port={self._database_port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                f"--init-file={folder}/database.sql",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-lock-wait-timeout=900",
            ],
            log=folder / "mariadb.log",
            user="mysql",
        )
        self.slurmdbd = Daemon(
            [str(program("slurmdbd")), "-D"],
            log=folder / "slurmdbd.out",
            environment={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")},
        )

    @property
    def slurm_conf(self) -> str:
        """The lines of slurm.conf by which the controller finds it."""
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={self._dbd_port}\nAccountingStoragePass={self.folder}/munge/socket\n"
            "AccountingStorageEnforce=associations"
        )

    def start(self) -> None:
        """Start both, and make the cluster, an account and its users known."""
        self._make_database()
        self.database.start()
        self.database.wait_until((self.folder / "database" / "socket").exists)
        conf = self.folder / "slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            _CONF.format(
                folder=self.folder,
                dbd_port=self._dbd_port,
                database_port=self._database_port,
                password=self._password,
            )
        )
        self.start_slurmdbd()
        self.sacctmgr("add", "cluster", "tests")
        self.sacctmgr("add", "account", ACCOUNT, "Description=tests", "Organization=tests")

    def add_user(self, name: str) -> None:
        """Let a user submit jobs."""
        self.sacctmgr("add", "user", name, f"Account={ACCOUNT}")

    def start_slurmdbd(self) -> None:
        self.slurmdbd.start()
        self.slurmdbd.wait_until(lambda: self._sacctmgr("list", "cluster").returncode == 0)

    def stop(self) -> None:
        """Stop both."""
        self.slurmdbd.stop()
        self.database.stop()

    def sacctmgr(self, *words: str) -> str:
        """
        Change what accounting knows.

        :raises AssertionError: where it refuses.
        """
        done = self._sacctmgr(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _sacctmgr(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        command = ["sacctmgr", "--immediate", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def _make_database(self) -> None:
        data = self.folder / "database"
        data.mkdir(mode=0o700)
        (self.folder / "database.sql").write_text(_USER.format(password=self._password))
        mysql = pwd.getpwnam("mysql")
        for path in (data, self.folder / "database.sql"):
            os.chown(path, mysql.pw_uid, mysql.pw_gid)
        (self.folder / "database.sql").chmod(0o600)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=mysql", "--skip-test-db"],
            check=True,
            capture_output=True,
            text=True,
        )
