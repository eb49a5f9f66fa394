"""Commands on a cluster's login node, over an SSH connection that is kept: with asyncssh, for triggerers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import asyncssh
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.ssh.hooks.ssh import SSHHookAsync
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.slurm import ssh_errors
from fractal_airflow.execution.slurm.framing import command_line, new_marker
from fractal_airflow.execution.slurm.ssh_settings import (
    CONNECT_S,
    KEEPALIVE_S,
    Host,
    SshSettings,
    known_key,
    quiet_logs,
    read_settings,
)
from fractal_airflow.execution.slurm.transport import AT_ONCE, DEADLINE_S, AsyncTransport, Completed

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHClientProcess

REFUSED_S = 10.0
REFUSED_PAUSE_S = 0.2

_BROKEN = (asyncssh.Error, OSError)
_BAD_KEY = (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)


@dataclass
class _Opening:
    """A connection that is being made, or was made: all calls wait for the same one."""

    task: asyncio.Task[SSHClientConnection]
    since: float = field(default_factory=time.monotonic)

    def is_usable(self) -> bool:
        if not self.task.done():
            return time.monotonic() - self.since < CONNECT_S
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        return not self.task.result().is_closed()

    def gave(self, connection: SSHClientConnection) -> bool:
        return self.is_usable() and self.task.done() and self.task.result() is connection


class AsyncSshTransport(AsyncTransport):
    """
    Runs commands over an SSH connection of Airflow; all calls share it.

    :param ssh_conn_id: the connection's name.
    """

    def __init__(self, ssh_conn_id: str) -> None:
        self.where = f"the host of the SSH connection {ssh_conn_id!r}"
        self._conn_id = ssh_conn_id
        self._opening: _Opening | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._running = 0
        self._given_up: set[asyncio.Task[SSHClientConnection]] = set()

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S
    ) -> Completed:
        """Run a command until its end (see :meth:`Transport.run`); past the deadline its channel is closed."""
        marker = new_marker()
        line = command_line(argv, marker)
        try:
            async with asyncio.timeout(deadline_s), self._turns:
                return await self._run(line, marker, stdin)
        except TimeoutError:
            raise ssh_errors.late(self.where, deadline_s) from None

    async def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        self._drop()
        if self._given_up:
            await asyncio.wait(self._given_up, timeout=0)

    async def _run(self, line: str, marker: str, stdin: bytes) -> Completed:
        self._running += 1
        try:
            connection, process = await self._start(line)
            try:
                code, stdout, stderr = await _finish(process, stdin)
            except _BROKEN as error:
                raise ssh_errors.cut(self.where, error) from error
            finally:
                process.close()
        finally:
            self._running -= 1
        if code is None and connection.is_closed():
            raise ssh_errors.cut(self.where, "it was closed")
        return ssh_errors.reply(self.where, marker, code, stdout, stderr)

    async def _start(self, line: str) -> tuple[SSHClientConnection, SSHClientProcess[bytes]]:
        """Start a command; a kept connection that opens no channel for it any more is replaced in passing."""
        kept = self._opening is not None and self._opening.is_usable()
        connection = await self._connected()
        refused_until = time.monotonic() + REFUSED_S
        while True:
            try:
                return connection, await _new_process(connection, line)
            except asyncssh.ChannelOpenError as error:
                if self._running == 1 or connection.is_closed():
                    if not kept:
                        raise ssh_errors.unreachable(self.where, error) from error
                    break
                # sshd counts a command for a while after its end, and as long as it runs, even if nobody waits
                # for it any more. Other calls need this connection.
                if time.monotonic() > refused_until:
                    raise ssh_errors.unreachable(self.where, error) from error
                await asyncio.sleep(REFUSED_PAUSE_S)
            except _BROKEN as error:
                raise ssh_errors.cut(self.where, error) from error
        if self._opening is not None and self._opening.gave(connection):
            self._drop()
        connection = await self._connected()
        try:
            return connection, await _new_process(connection, line)
        except _BROKEN as error:
            raise ssh_errors.unreachable(self.where, error) from error

    async def _connected(self) -> SSHClientConnection:
        if self._opening is None or not self._opening.is_usable():
            self._drop()
            task = asyncio.create_task(self._open())
            task.add_done_callback(_look_at)
            self._opening = _Opening(task)
        # Whoever stops waiting leaves the connection to the others, and to the next call.
        return await asyncio.shield(self._opening.task)

    def _drop(self) -> None:
        """Close the connection, even one that is still being made: asyncssh ends that in its own time."""
        opening, self._opening = self._opening, None
        if opening is not None:
            self._given_up.add(opening.task)
            opening.task.add_done_callback(self._given_up.discard)
            opening.task.add_done_callback(_close_connection)

    async def _open(self) -> SSHClientConnection:
        quiet_logs()
        settings = await self._settings()
        self.where = settings.where
        try:
            hook: SSHHookAsync = _Hook.of(settings)
            connection: SSHClientConnection = await hook.get_conn()
        except (*_BROKEN, ValueError) as error:
            raise _explained(settings, error) from error
        return connection

    async def _settings(self) -> SshSettings:
        try:
            connection = await get_async_connection(self._conn_id)
            return read_settings(connection, await _extra(connection))
        except AirflowNotFoundException:
            raise ssh_errors.missing_connection(self._conn_id) from None
        except (AirflowRuntimeError, OSError) as error:
            raise ssh_errors.unreadable_connection(self._conn_id, error) from error


class _Hook(SSHHookAsync):
    """The provider's hook, told all that it would read from the connection's extra."""

    @classmethod
    def of(cls, settings: SshSettings) -> _Hook:
        host = settings.host
        return cls(
            settings.conn_id,
            host=host.name,  # asyncssh finds the address, and the jump hosts, in the user's configuration
            port=host.port,
            username=host.user,
            password=settings.password,
            known_hosts=_trusted(settings),
            key_file=str(host.key_file or ""),
            passphrase=settings.passphrase or "",
            private_key=settings.private_key or "",
            keepalive_interval=KEEPALIVE_S,
        )

    def _parse_extras(self, conn: Any) -> None:
        """Do nothing: the hook's own way blocks, which fails in a triggerer that does something else, too."""


def _trusted(settings: SshSettings) -> Any:
    """Return what the hook takes for known hosts: a file, or a line of one, or that there is no check."""
    if not settings.check_host_key:
        return "none"
    if settings.host_key is None:
        return str(settings.known_hosts)
    kind, _, key = settings.host_key.strip().partition(" ")
    line = f"{kind} {key.split()[0]}" if key else f"ssh-rsa {kind}"
    return f"{settings.host.address} {line}".encode()


async def _extra(connection: Any) -> dict[str, Any]:
    """Return a connection's extra; that its secrets are masked in logs takes a call, which must not block."""
    if hasattr(connection, "aextra_dejson"):
        return dict(await connection.aextra_dejson())
    return dict(await asyncio.to_thread(lambda: connection.extra_dejson))


async def _new_process(connection: SSHClientConnection, line: str) -> SSHClientProcess[bytes]:
    starting = asyncio.ensure_future(connection.create_process(line, encoding=None))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_close_process)
        raise


async def _finish(process: SSHClientProcess[bytes], stdin: bytes) -> tuple[int | None, bytes, bytes]:
    """Wait for a command's end; return its exit code (None if there is none), and what it printed."""
    with contextlib.suppress(OSError):  # a command may end without having read its input
        if stdin:
            process.stdin.write(stdin)
        process.stdin.write_eof()
    stdout, stderr = await process.communicate()
    code = process.exit_status
    return (None if code is None or code < 0 else code), stdout, stderr


def _look_at(task: asyncio.Task[SSHClientConnection]) -> None:
    """Let asyncio know that an error is nothing forgotten, even if nobody waits for the connection any more."""
    if not task.cancelled():
        task.exception()


def _close_connection(task: asyncio.Task[SSHClientConnection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _close_process(starting: asyncio.Future[SSHClientProcess[bytes]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()


def _explained(settings: SshSettings, error: Exception) -> FractalAirflowError:
    if isinstance(error, _BAD_KEY):
        return ssh_errors.bad_key(settings, error)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        settings = replace(settings, host=_meant(settings, error))
        changed = settings.host_key is not None or known_key(settings) is not None
        return ssh_errors.untrusted(settings, error, changed=changed)
    if isinstance(error, asyncssh.PermissionDenied):
        return ssh_errors.refused(settings, error)
    if isinstance(error, (ValueError, asyncssh.ProtocolNotSupported, asyncssh.KeyExchangeFailed)):
        return ssh_errors.bad_settings(settings.conn_id, error)
    return ssh_errors.unreachable(settings.where, error)


def _meant(settings: SshSettings, error: Exception) -> Host:
    """Return the machine that an error names: perhaps a jump host."""
    words = str(error).split()
    return next(
        (jump for jump in settings.jumps if jump.address in words or jump.name in words), settings.host
    )
