"""A paramiko connection to a login node, over as many jump hosts as the user's SSH configuration names."""

from __future__ import annotations

import contextlib
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import paramiko
from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.sdk.exceptions import AirflowException

from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.slurm import ssh_errors
from fractal_airflow.execution.slurm.ssh_settings import (
    CONNECT_S,
    KEEPALIVE_S,
    Host,
    SshSettings,
    known_key,
)

if TYPE_CHECKING:
    from paramiko import Channel, PKey, SSHClient

    from fractal_airflow.execution.slurm.ssh_transport import Deadline

BROKEN = (paramiko.SSHException, OSError, EOFError)

# If the other machine is gone without a word, the system says so after this long without an answer.
_SILENCE_MS = 30_000

_KEY_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class _Closeable(Protocol):
    def close(self) -> None: ...


class SshConnection:
    """An open connection; ``close`` closes those to the jump hosts, too."""

    def __init__(self, client: SSHClient, stack: ExitStack) -> None:
        self._client = client
        self._stack = stack

    @classmethod
    def open(cls, settings: SshSettings, deadline: Deadline) -> SshConnection:
        """
        Connect.

        :raises ClusterUnreachableError: if a machine does not answer.
        :raises ResourceError: if a key, a host key or a user is refused.
        """
        with ExitStack() as stack:
            client: SSHClient | None = None
            for host in (*settings.jumps, settings.host):
                client = _log_in(replace(settings, host=host), settings.host, client, deadline)
                stack.callback(client.close)
            assert client is not None
            return cls(client, stack.pop_all())

    def is_alive(self) -> bool:
        """Tell whether the connection is open, as far as this side knows."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def open_channel(self, timeout_s: float) -> Channel:
        transport = self._client.get_transport()
        if transport is None:
            raise EOFError("the connection was closed")
        return transport.open_session(timeout=timeout_s)

    def close(self) -> None:
        with contextlib.suppress(*BROKEN):
            self._stack.close()


def _log_in(settings: SshSettings, target: Host, via: SSHClient | None, deadline: Deadline) -> SSHClient:
    """Log in to one machine, through the one before it on the way."""
    hook = _target_hook(settings) if settings.host is target else _jump_hook(settings)
    try:
        sock = _reach(settings.host, via, min(hook.conn_timeout or CONNECT_S, deadline.left))
    except BROKEN as error:
        raise ssh_errors.unreachable(settings.where, error) from error
    deadline.cut(lambda: _cut(sock))
    hook.host_proxy = sock
    try:
        return hook.get_conn()
    except BaseException as error:
        _cut(sock)
        if isinstance(error, (*BROKEN, ValueError)):
            raise _explained(settings, error) from error
        raise


def _reach(host: Host, via: SSHClient | None, timeout_s: float) -> Any:
    """Return what carries the bytes to a machine: a channel of a jump host, a program, or a socket."""
    if via is not None:
        transport = via.get_transport()
        if transport is None:
            raise EOFError("the connection to the jump host was closed")
        address = (host.address, host.port)
        return transport.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=timeout_s)
    if host.proxy_command:
        return paramiko.ProxyCommand(host.proxy_command)
    sock = socket.create_connection((host.address, host.port), timeout=timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    return sock


def _cut(sock: _Closeable) -> None:
    with contextlib.suppress(*BROKEN):
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(*BROKEN):
        sock.close()


def _target_hook(settings: SshSettings) -> SSHHook:
    host = settings.host
    try:
        hook = SSHHook(
            ssh_conn_id=settings.conn_id,
            remote_host=host.address,
            username=host.user,
            port=host.port,
            keepalive_interval=KEEPALIVE_S,
            conn_retry_attempts=1,  # whoever calls waits without a connection, and knows how long
        )
    except (AirflowException, ValueError) as error:
        raise ssh_errors.bad_settings(settings.conn_id, error) from error
    _use_key(hook, settings)
    # Without a check no key is looked up, and none is added to the user's known_hosts either.
    hook.no_host_key_check = hook.allow_host_key_change = not settings.check_host_key
    if settings.check_host_key and hook.host_key is None:
        hook.host_key = known_key(settings)
    return hook


def _jump_hook(settings: SshSettings) -> SSHHook:
    host = settings.host
    hook = SSHHook(
        remote_host=host.address,
        username=host.user,
        port=host.port,
        keepalive_interval=KEEPALIVE_S,
        conn_retry_attempts=1,
    )
    _use_key(hook, settings)
    return hook


def _use_key(hook: SSHHook, settings: SshSettings) -> None:
    """Load the key here: the hook knows no passphrase for a file, and says less about what is wrong with it."""
    hook.key_file = None
    if settings.host.key_file is not None:
        try:
            key: Any = _load_key(settings.host.key_file, settings.passphrase)
        except (paramiko.SSHException, OSError, ValueError) as error:
            raise ssh_errors.bad_key(settings, error) from error
        hook.pkey = key


def _load_key(path: Path, passphrase: str | None) -> PKey:
    text = path.read_text()
    error: Exception | None = None
    for key_class in _KEY_CLASSES:
        try:
            key = key_class.from_private_key_file(str(path), password=passphrase)
        except (paramiko.SSHException, ValueError) as failure:
            if isinstance(failure, paramiko.PasswordRequiredException) or error is None:
                error = failure
            continue
        certificate = Path(f"{path}-cert.pub")
        if certificate.is_file():
            key.load_certificate(str(certificate))
        return key
    if "PRIVATE KEY" not in text:
        raise ValueError("it is no private key")
    raise error or ValueError("it is of no known type")


def _explained(settings: SshSettings, error: Exception) -> FractalAirflowError:
    said = str(error)
    if isinstance(error, paramiko.BadHostKeyException):
        return ssh_errors.untrusted(settings, error, changed=True)
    if "not found in known_hosts" in said:
        return ssh_errors.untrusted(settings, error, changed=False)
    if "timeout" in said or "shut down" in said:  # while it logged in
        return ssh_errors.unreachable(settings.where, error)
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in said:
        return ssh_errors.refused(settings, error)
    if isinstance(error, (paramiko.ssh_exception.IncompatiblePeer, ValueError)):
        return ssh_errors.bad_settings(settings.conn_id, error)
    return ssh_errors.unreachable(settings.where, error)
