"""What can go wrong with an SSH connection, in words that an administrator can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fractal_airflow.exceptions import ClusterUnreachableError, FractalAirflowError, ResourceError
from fractal_airflow.execution.slurm.framing import after_marker
from fractal_airflow.execution.slurm.transport import Completed, is_starved

if TYPE_CHECKING:
    from fractal_airflow.execution.slurm.ssh_settings import SshSettings

_PORT = 22
_LONGEST = 500

_NOLOGIN_CODE = 254  # sshd's, while there is a /etc/nologin


def reply(where: str, marker: str, code: int | None, stdout: bytes, stderr: bytes) -> Completed:
    """
    Return how a command ended, without what the login shell printed before it.

    :param code: the session's exit code; None if it ended without one.
    :raises ClusterUnreachableError: if it did not end by itself.
    :raises ResourceError: if the login shell never ran it.
    """
    own_stdout, own_stderr = after_marker(stdout, marker), after_marker(stderr, marker)
    if own_stdout is None or own_stderr is None:
        raise not_run(where, code, stdout, stderr)
    if code is None:
        raise ClusterUnreachableError(f"The command on {where} was ended from outside: {_said(own_stderr)}")
    return Completed(code, own_stdout, own_stderr)


def missing_connection(conn_id: str) -> ResourceError:
    """Return the error for a connection that Airflow does not have."""
    return ResourceError(
        f"There is no Airflow connection {conn_id!r}: add one of type 'ssh', "
        "or correct ssh_conn_id in the resource's connection"
    )


def unreadable_connection(conn_id: str, error: BaseException) -> ClusterUnreachableError:
    """Return the error for a connection that Airflow does not give right now."""
    return ClusterUnreachableError(f"Airflow does not give the connection {conn_id!r}: {words(error)}")


def unreachable(where: str, error: BaseException) -> ClusterUnreachableError:
    """Return the error for a connection that cannot be made."""
    return ClusterUnreachableError(f"No SSH connection to {where}: {words(error)}")


def cut(where: str, error: BaseException | str) -> ClusterUnreachableError:
    """Return the error for a connection that broke while a command ran."""
    reason = error if isinstance(error, str) else words(error)
    return ClusterUnreachableError(
        f"The SSH connection to {where} broke in the middle of a command: {reason}"
    )


def late(where: str, deadline_s: float) -> ClusterUnreachableError:
    """Return the error for a deadline that passed."""
    return ClusterUnreachableError(f"No answer from {where} over SSH within {deadline_s:g} s")


def not_run(where: str, code: int | None, stdout: bytes, stderr: bytes) -> FractalAirflowError:
    """Return the error for a session that ended before the login shell had started the command."""
    said = _said(stderr + stdout) or f"exit code {code}"
    if code is None or code == _NOLOGIN_CODE or is_starved(stderr):
        return ClusterUnreachableError(f"{where} starts no commands right now: {said}")
    return ResourceError(
        f"The login shell on {where} does not run commands: {said}. Its user needs a shell that runs "
        "/bin/sh, and no forced command; base64 has to be installed there."
    )


def refused(settings: SshSettings, error: BaseException) -> ResourceError:
    """Return the error for a user who is not let in."""
    return ResourceError(
        f"{settings.where} refuses the user {settings.host.user!r}: {words(error)}. Check the login and the "
        f"key or password of the SSH connection {settings.conn_id!r}, and the user's authorized_keys there."
    )


def untrusted(settings: SshSettings, error: BaseException, *, changed: bool) -> ResourceError:
    """Return the error for a host key that is not known, or is another than the known one."""
    host = settings.host
    name = host.address if host.port == _PORT else f"[{host.address}]:{host.port}"
    what = (
        "is not the known one: somebody may be listening in, or the machine was set up anew"
        if changed
        else "is not known"
    )
    source = "the extra host_key" if settings.host_key else str(settings.known_hosts)
    put = f"put it in place of what {source} has for {name}" if changed else f"add it to {source} for {name}"
    return ResourceError(
        f"The host key of {settings.where} {what} ({words(error)}). Compare it with the administrator's, then "
        f"{put}: as a line of known_hosts (`ssh-keyscan -p {host.port} {host.address}` prints it), or "
        f"as host_key in the extra of the SSH connection {settings.conn_id!r}."
    )


def bad_key(settings: SshSettings, error: BaseException) -> ResourceError:
    """Return the error for a private key that cannot be used."""
    key = f"file {settings.host.key_file}" if settings.host.key_file else "in the extra private_key"
    return ResourceError(
        f"The key {key} of the SSH connection {settings.conn_id!r} cannot be used: {words(error)}. Give an "
        "RSA, ECDSA or Ed25519 key, and its passphrase as private_key_passphrase in the extra."
    )


def bad_settings(conn_id: str, error: BaseException) -> ResourceError:
    """Return the error for settings that the SSH library does not take."""
    return ResourceError(f"The SSH connection {conn_id!r} cannot be used: {words(error)}")


def words(error: BaseException) -> str:
    """Return what an error says, without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().rstrip(".") or type(error).__name__


def _said(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()[-_LONGEST:]
