"""A PostgreSQL server of our own, from Debian's binaries, that lives as long as a ``with`` block."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

_START_TIMEOUT_S = 60
_PORT_TRIES = 5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# Nothing in these databases outlives the tests, so nothing needs to be safe on the disk.
_SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=100",
    "listen_addresses=127.0.0.1",
)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; ``url`` and ``create_database`` say how to reach it."""

    host: str
    port: int
    user: str
    password: str
    log: Path

    def url(self, database: str, driver: str = "postgresql") -> str:
        """The URL of one of its databases, for example with the driver ``postgresql+psycopg2``."""
        return f"{driver}://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def create_database(self, name: str | None = None, driver: str = "postgresql") -> str:
        """Make an empty database, with a name of its own unless one is given, and return its URL."""
        name = name or f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name, driver)


@contextmanager
def running_postgres(settings: tuple[str, ...] = _SETTINGS) -> Iterator[PostgresServer]:
    """Start a server in a temporary folder on a free loopback port; stop it and remove all at the end.

    It does not outlive the process that started it. Started by root, it runs as another user, since
    PostgreSQL refuses to run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix="fractal-postgres-"))
    try:
        user = _unprivileged_user()
        if user is not None:
            shutil.chown(folder, user)
        server = PostgresServer("127.0.0.1", 0, "fractal", secrets.token_hex(8), folder / "server.log")
        _make_cluster(folder, server, user)
        process, server = _start(folder, server, user, settings)
        try:
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            process.wait(timeout=_START_TIMEOUT_S)
    finally:
        shutil.rmtree(folder)


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _binaries() -> Path:
    """The newest version's folder of programs."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: int(re.sub(r"\D", "", path.parts[-3])), default=None)
    on_path = shutil.which("initdb")
    if newest is None and on_path is None:
        raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
    return newest.parent if newest else Path(str(on_path)).parent


def _make_cluster(folder: Path, server: PostgresServer, user: str | None) -> None:
    password_file = folder / "password"
    password_file.write_text(server.password)
    if user is not None:
        shutil.chown(password_file, user)
    options = ["--username", server.user, "--pwfile", str(password_file), "--auth", "scram-sha-256"]
    options += ["--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
    subprocess.run(
        [_binaries() / "initdb", "--pgdata", folder / "data", *options],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        user=user,
        group=_group(user),
        extra_groups=[] if user else None,
    )


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _start(
    folder: Path, server: PostgresServer, user: str | None, settings: tuple[str, ...]
) -> tuple[subprocess.Popen[bytes], PostgresServer]:
    """Start on a free port; another process may take it first, so there are some tries."""
    for _ in range(_PORT_TRIES):
        port = _free_port()
        command: list[str | Path] = [_binaries() / "postgres", "-D", folder / "data", "-k", folder]
        command += ["-p", str(port)]
        for setting in settings:
            command += ["-c", setting]
        with server.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=_group(user),
                extra_groups=[] if user else None,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=_die_with_parent,
            )
        started = PostgresServer(server.host, port, server.user, server.password, server.log)
        if _answers(process, started):
            return process, started
    raise RuntimeError(f"PostgreSQL did not start:\n{server.log.read_text()}")


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], server: PostgresServer) -> bool:
    """Wait until the server takes connections; false if it ended."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    process.kill()
    process.wait()
    return False
