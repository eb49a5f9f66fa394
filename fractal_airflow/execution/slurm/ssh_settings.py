"""What an SSH connection of Airflow and ``~/.ssh/config`` say together: the same for workers and triggerers."""

from __future__ import annotations

import base64
import contextlib
import getpass
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.slurm.ssh_errors import words

if TYPE_CHECKING:
    import paramiko

CONNECT_S = 30.0
# A peer that is gone is noticed after two or three of these.
KEEPALIVE_S = 10

_PORT = 22
_KNOWN_HOSTS = "~/.ssh/known_hosts"
_CONFIG = "~/.ssh/config"
_MAX_JUMPS = 8


@dataclass(frozen=True)
class Host:
    """A machine to connect to.

    :param name: how the connection or the configuration calls it.
    :param address: its real name or address.
    :param key_file: the key for it, if one is named and is there.
    :param proxy_command: a program that connects to it, if the configuration names one.
    """

    name: str
    address: str
    port: int
    user: str
    key_file: Path | None = None
    proxy_command: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.name}:{self.port}"


@dataclass(frozen=True)
class SshSettings:
    """How to connect to a cluster's login node.

    :param jumps: the machines on the way, the first one first.
    :param passphrase: of the key, if it has one.
    :param host_key: the one that the connection names.
    :param known_hosts: the file that the login node's key is looked up in.
    :param check_host_key: false where the administrator does without.
    """

    conn_id: str
    host: Host
    jumps: tuple[Host, ...] = ()
    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    host_key: str | None = None
    known_hosts: Path = Path(_KNOWN_HOSTS)
    check_host_key: bool = True

    @property
    def where(self) -> str:
        return str(self.host)


def read_settings(connection: Any, extra: Mapping[str, Any]) -> SshSettings:
    """
    Bring together an Airflow connection, its extra, and the user's SSH configuration.

    :raises ResourceError: if they do not make a connection.
    """
    conn_id = connection.conn_id
    if connection.conn_type != "ssh":
        raise ResourceError(
            f"The Airflow connection {conn_id!r} is of type {connection.conn_type!r}, not 'ssh'"
        )
    if not connection.host:
        raise ResourceError(f"The SSH connection {conn_id!r} has no host: name the cluster's login node")
    config = _ssh_config(conn_id)
    private_key = _text(extra, "private_key")
    passphrase = _text(extra, "private_key_passphrase") or _text(extra, "passphrase")
    host = _host(config, connection.host, user=connection.login, port=connection.port)
    key_file = _key_file(conn_id, extra)
    if key_file and private_key:
        raise ResourceError(
            f"The SSH connection {conn_id!r} has both key_file and private_key: leave one away"
        )
    if key_file or private_key or connection.password:
        host = replace(host, key_file=key_file)
    return SshSettings(
        conn_id=conn_id,
        host=host,
        jumps=_jumps(config, host.name),
        password=connection.password or None,
        passphrase=passphrase or connection.password or None,
        private_key=private_key,
        host_key=_host_key(conn_id, extra),
        known_hosts=_known_hosts(conn_id, extra),
        check_host_key=_checks_host_key(extra),
    )


def known_key(settings: SshSettings) -> Any:
    """Return the machine's key of a file of known hosts, as OpenSSH finds it: with its port, or without."""
    import paramiko

    host = settings.host
    known = paramiko.HostKeys()
    with contextlib.suppress(OSError):
        known.load(str(settings.known_hosts))
    for name in (f"[{host.address}]:{host.port}", host.address):
        found = known.lookup(name)
        if found:
            return next(iter(found.values()))
    return None


def quiet_logs() -> None:
    """Keep what the SSH libraries say of each connection out of the task's log, unless somebody asked for it."""
    # paramiko logs a broken connection with a traceback as well as raising it.
    for name, level in (("paramiko", logging.CRITICAL), ("asyncssh", logging.WARNING)):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


def _ssh_config(conn_id: str) -> paramiko.SSHConfig:
    import paramiko

    path = Path(_CONFIG).expanduser()
    try:
        return paramiko.SSHConfig.from_path(str(path)) if path.is_file() else paramiko.SSHConfig()
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise ResourceError(f"{path}, for the SSH connection {conn_id!r}: {words(error)}") from error


def _host(config: paramiko.SSHConfig, name: str, *, user: str | None = None, port: int | None = None) -> Host:
    found = config.lookup(name)
    keys = [Path(key).expanduser() for key in found.get("identityfile", [])]
    return Host(
        name=name,
        address=found.get("hostname", name),
        port=port or int(found.get("port", _PORT)),
        user=user or found.get("user") or getpass.getuser(),
        key_file=next((key for key in keys if key.is_file()), None),
        proxy_command=found.get("proxycommand"),
    )


def _jumps(config: paramiko.SSHConfig, name: str, depth: int = 0) -> tuple[Host, ...]:
    """Return the machines of a ProxyJump, and before them those of the first one's own."""
    value = config.lookup(name).get("proxyjump", "none")
    if value.lower() == "none":
        return ()
    if depth == _MAX_JUMPS:
        raise ResourceError(
            f"{_CONFIG}: the ProxyJump of {name!r} leads in a circle; give it 'ProxyJump none'"
        )
    jumps = [_jump(config, text.strip()) for text in value.split(",")]
    return (*_jumps(config, jumps[0].name, depth + 1), *jumps)


def _jump(config: paramiko.SSHConfig, text: str) -> Host:
    user, _, host = text.removeprefix("ssh://").rpartition("@")
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, ""
    return _host(config, name.strip("[]"), user=user or None, port=int(port) if port else None)


def _key_file(conn_id: str, extra: Mapping[str, Any]) -> Path | None:
    text = _text(extra, "key_file")
    if text is None:
        return None
    path = Path(text).expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ResourceError(
            f"The key file {path} of the SSH connection {conn_id!r} cannot be read: {error.strerror}. "
            "It has to be on every machine of Airflow's workers and triggerers; "
            "or put the key itself into private_key of the extra."
        ) from error
    return path


def _host_key(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    """Return the machine's key: of its type and itself, or, for RSA, itself alone."""
    text = _text(extra, "host_key")
    if text is None:
        return None
    parts = text.split()
    key = "".join(parts[1:2] or parts)
    try:
        is_key = base64.b64decode(key, validate=True).startswith(b"\0\0\0")
    except ValueError:
        is_key = False
    if not is_key:
        raise ResourceError(
            f"host_key of the SSH connection {conn_id!r} is no public key: give its type and the key, such as "
            "'ssh-ed25519 AAAA…', as `ssh-keyscan HOST` prints them after the name of the host"
        )
    return text


def _known_hosts(conn_id: str, extra: Mapping[str, Any]) -> Path:
    path = Path(_text(extra, "known_hosts") or _KNOWN_HOSTS).expanduser()
    if "known_hosts" in extra and _checks_host_key(extra) and not path.is_file():
        raise ResourceError(f"The file {path} (known_hosts of the SSH connection {conn_id!r}) does not exist")
    return path


def _checks_host_key(extra: Mapping[str, Any]) -> bool:
    names = ("no_host_key_check", "ignore_hostkey_verification", "allow_host_key_change")
    return not (
        any(str(extra.get(name)).lower() == "true" for name in names)
        or str(extra.get("known_hosts", "")).lower() == "none"
    )


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    return str(value) if value not in (None, "") else None
