"""Commands on a cluster's login node, over an SSH connection that is kept: with paramiko, for workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from fractal_airflow.exceptions import ClusterUnreachableError
from fractal_airflow.execution.slurm import ssh_errors
from fractal_airflow.execution.slurm.framing import command_line, new_marker
from fractal_airflow.execution.slurm.ssh_connection import BROKEN, SshConnection
from fractal_airflow.execution.slurm.ssh_settings import SshSettings, quiet_logs, read_settings
from fractal_airflow.execution.slurm.transport import DEADLINE_S, Completed, Transport

if TYPE_CHECKING:
    from paramiko import Channel

_CHUNK_BYTES = 1 << 18


class SshTransport(Transport):
    """
    Runs commands over an SSH connection of Airflow.

    :param ssh_conn_id: the connection's name.
    """

    def __init__(self, ssh_conn_id: str) -> None:
        self.where = f"the host of the SSH connection {ssh_conn_id!r}"
        self._conn_id = ssh_conn_id
        self._connection: SshConnection | None = None
        # A task that is killed while it connects cancels its job in a signal handler: in the same thread.
        self._lock = threading.RLock()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Completed:
        """Run a command until its end (see :meth:`Transport.run`); past the deadline the connection is cut."""
        marker = new_marker()
        line = command_line(argv, marker)
        with Deadline(deadline_s) as deadline:
            try:
                connection, channel = self._open_channel(deadline)
                with contextlib.closing(channel):
                    code, stdout, stderr = _execute(channel, line, stdin)
            except (ClusterUnreachableError, *BROKEN) as error:
                if deadline.passed:
                    raise ssh_errors.late(self.where, deadline_s) from None
                if isinstance(error, ClusterUnreachableError):
                    raise
                raise ssh_errors.cut(self.where, error) from error
        if code is None:
            if deadline.passed:
                raise ssh_errors.late(self.where, deadline_s)
            if not connection.is_alive():
                raise ssh_errors.cut(self.where, "it was closed")
        return ssh_errors.reply(self.where, marker, code, stdout, stderr)

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open_channel(self, deadline: Deadline) -> tuple[SshConnection, Channel]:
        """Return a channel in which nothing has run yet: so a dead connection may be replaced in passing."""
        if not self._lock.acquire(timeout=deadline.left):
            raise ssh_errors.late(self.where, deadline.seconds)
        try:
            kept = self._connection
            if kept is not None and kept.is_alive():
                deadline.cut(kept.close)
                with contextlib.suppress(*BROKEN):
                    return kept, kept.open_channel(deadline.left)
            if deadline.passed:
                raise ssh_errors.late(self.where, deadline.seconds)
            self.close()
            settings = self._settings()
            self.where = settings.where
            self._connection = SshConnection.open(settings, deadline)
            deadline.cut(self._connection.close)
            try:
                return self._connection, self._connection.open_channel(deadline.left)
            except BROKEN as error:
                raise ssh_errors.unreachable(self.where, error) from error
        finally:
            self._lock.release()

    def _settings(self) -> SshSettings:
        quiet_logs()
        try:
            connection = BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException:
            raise ssh_errors.missing_connection(self._conn_id) from None
        except (AirflowRuntimeError, OSError) as error:
            raise ssh_errors.unreadable_connection(self._conn_id, error) from error
        return read_settings(connection, connection.extra_dejson)


class Deadline:
    """A time limit over all that a call does: when it passes, what the call waits for is cut off."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._end = time.monotonic() + seconds
        self._cuts: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def cut(self, close: Callable[[], object]) -> None:
        """Call ``close``, from another thread, once the time has passed."""
        with self._lock:
            self._cuts.append(close)
            if not self.passed:
                return
        close()

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            cuts = list(self._cuts)
        for close in reversed(cuts):
            with contextlib.suppress(Exception):
                close()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()


def _execute(channel: Channel, line: str, stdin: bytes) -> tuple[int | None, bytes, bytes]:
    """Run a command line; return its exit code (None if there is none), and what it printed."""
    channel.exec_command(line)
    stderr: list[bytes] = []
    threads = [threading.Thread(target=_read, args=(channel.recv_stderr, stderr), daemon=True)]
    if stdin:
        # It reads while it writes: both at once, or both would wait for each other.
        threads.append(threading.Thread(target=_write, args=(channel, stdin), daemon=True))
    else:
        channel.shutdown_write()
    for thread in threads:
        thread.start()
    stdout: list[bytes] = []
    _read(channel.recv, stdout)
    code = channel.recv_exit_status()
    for thread in threads:
        thread.join()
    return (None if code < 0 else code), b"".join(stdout), b"".join(stderr)


def _read(receive: Callable[[int], bytes], into: list[bytes]) -> None:
    while chunk := receive(_CHUNK_BYTES):
        into.append(chunk)


def _write(channel: Channel, content: bytes) -> None:
    with contextlib.suppress(*BROKEN):  # a command may end without having read its input
        for start in range(0, len(content), _CHUNK_BYTES):  # paramiko copies what is left at every packet
            channel.sendall(content[start : start + _CHUNK_BYTES])
        channel.shutdown_write()
