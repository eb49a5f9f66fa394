"""The seam between what is done on a cluster and how it gets there: commands and files, with a deadline each."""

from __future__ import annotations

import posixpath
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fractal_airflow.exceptions import WorkFolderError

if TYPE_CHECKING:
    from fractal_airflow.execution.resource import ResourceConfig

DEADLINE_S = 60.0

# Calls at a time of an asynchronous transport: sshd allows ten on a connection, unless its MaxSessions says so.
AT_ONCE = 8

_MISSING = 66

_STARVED = (
    b"Resource temporarily unavailable", b"Cannot allocate memory", b"Too many open files", b"fork:", b"Cannot fork",
)  # fmt: skip

# The content comes first, whole, into a file of its own: a cut connection leaves the real one as it was.
_RECEIVE = """\
LC_ALL=C; export LC_ALL
folder=$1 part=$2 file=$3 size=$4
receive() {
    mkdir -p -- "$folder" && cat > "$part" && [ "$(wc -c < "$part")" -eq "$size" ]
}
"""
_PUT = f"""{_RECEIVE}
receive && mv -fT -- "$part" "$file" && exit 0
code=$?; rm -f -- "$part" 2>/dev/null; exit "$code"
"""
_APPEND = f"""{_RECEIVE}
receive && cat -- "$part" >> "$file"
code=$?; rm -f -- "$part" 2>/dev/null; exit "$code"
"""
_GET = f"""\
LC_ALL=C; export LC_ALL
[ -e "$1" ] || exit {_MISSING}
exec cat -- "$1"
"""


@dataclass(frozen=True)
class Completed:
    """How a command ended.

    :param code: its exit code: 127 if there is no such program, 128 and the signal if one killed it.
    """

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self) -> str:
        """What it said on its stderr, for messages."""
        return self.stderr.decode("utf-8", "replace").strip() or f"exit code {self.code}"


class Transport(ABC):
    """
    Runs commands and moves files where SLURM's commands are.

    A connection is kept and used again. A call never goes over two: one that broke may have been carried out.

    :ivar where: the machine, for messages.
    """

    where: str

    @abstractmethod
    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Completed:
        """
        Run a command until its end; its exit code is the caller's to judge.

        :param argv: the program and its arguments: any text, which no shell sees.
        :raises ClusterUnreachableError: if there is no connection, it broke, or the deadline passed;
            the command may have been carried out, or may go on.
        :raises ResourceError: if the configuration is wrong: a key, a host key, the user, the connection's name.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; a later call opens a new one."""

    def put(self, path: str, content: bytes, *, deadline_s: float = DEADLINE_S) -> None:
        """
        Write a file as a whole or not at all, and its folder if there is none.

        :raises WorkFolderError: if it cannot be written.
        """
        done = self.run(put_command(path, content), stdin=content, deadline_s=deadline_s)
        check_written(done, path, self.where)

    def append(self, path: str, content: bytes, *, deadline_s: float = DEADLINE_S) -> None:
        """
        Add to the end of a file, all of the content or nothing; without the file make it.

        :raises WorkFolderError: if it cannot be written.
        """
        done = self.run(append_command(path, content), stdin=content, deadline_s=deadline_s)
        check_written(done, path, self.where)

    def get(self, path: str, *, deadline_s: float = DEADLINE_S) -> bytes:
        """
        Read a file.

        :raises FileNotFoundError: if there is none.
        :raises WorkFolderError: if it cannot be read.
        """
        return content_of(self.run(get_command(path), deadline_s=deadline_s), path, self.where)


class AsyncTransport(ABC):
    """The same as :class:`Transport` for an event loop; calls may be made at the same time."""

    where: str

    @abstractmethod
    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S
    ) -> Completed:
        """Run a command until its end (see :meth:`Transport.run`)."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection; a later call opens a new one."""

    async def put(self, path: str, content: bytes, *, deadline_s: float = DEADLINE_S) -> None:
        """Write a file as a whole or not at all (see :meth:`Transport.put`)."""
        done = await self.run(put_command(path, content), stdin=content, deadline_s=deadline_s)
        check_written(done, path, self.where)

    async def append(self, path: str, content: bytes, *, deadline_s: float = DEADLINE_S) -> None:
        """Add to the end of a file, all of the content or nothing (see :meth:`Transport.append`)."""
        done = await self.run(append_command(path, content), stdin=content, deadline_s=deadline_s)
        check_written(done, path, self.where)

    async def get(self, path: str, *, deadline_s: float = DEADLINE_S) -> bytes:
        """Read a file (see :meth:`Transport.get`)."""
        return content_of(await self.run(get_command(path), deadline_s=deadline_s), path, self.where)


def make_transport(config: ResourceConfig) -> Transport:
    """Return the transport of a SLURM resource; it connects at its first call."""
    if config.type == "slurm_ssh":
        from fractal_airflow.execution.slurm.ssh_transport import SshTransport

        return SshTransport(_ssh_conn_id(config))
    from fractal_airflow.execution.slurm.local_transport import LocalTransport

    return LocalTransport(run_as_user=config.run_as_user)


def make_async_transport(config: ResourceConfig) -> AsyncTransport:
    """Return the transport of a SLURM resource for an event loop; it connects at its first call."""
    if config.type == "slurm_ssh":
        from fractal_airflow.execution.slurm.ssh_transport_async import AsyncSshTransport

        return AsyncSshTransport(_ssh_conn_id(config))
    from fractal_airflow.execution.slurm.local_transport import AsyncLocalTransport

    return AsyncLocalTransport(run_as_user=config.run_as_user)


def put_command(path: str, content: bytes) -> list[str]:
    """Return the command that reads a file's content from its input, and then puts it into place."""
    return ["/bin/sh", "-c", _PUT, "sh", *_receiving(path, content)]


def append_command(path: str, content: bytes) -> list[str]:
    """Return the command that reads content from its input, and then adds it to a file."""
    return ["/bin/sh", "-c", _APPEND, "sh", *_receiving(path, content)]


def get_command(path: str) -> list[str]:
    """Return the command that prints a file."""
    return ["/bin/sh", "-c", _GET, "sh", path]


def is_starved(stderr: bytes) -> bool:
    """Tell whether a machine had no process, memory or open file left to do something; that passes."""
    return any(text in stderr for text in _STARVED)


def check_written(done: Completed, path: str, where: str) -> None:
    """
    Make sure that a file was written.

    :raises WorkFolderError: if not, with the reason in the words of the machine.
    """
    if done.code:
        raise WorkFolderError(
            f"{path} cannot be written on {where}: {done.complaint}. Give the user of the connection the right "
            "to write there, make room, or set another work_dir in the resource's connection."
        )


def content_of(done: Completed, path: str, where: str) -> bytes:
    """
    Return the content of a file that was read.

    :raises FileNotFoundError: if there is none.
    :raises WorkFolderError: if it cannot be read.
    """
    if done.code == _MISSING:
        raise FileNotFoundError(f"There is no {path} on {where}")
    if done.code:
        raise WorkFolderError(f"{path} cannot be read on {where}: {done.complaint}")
    return done.stdout


def _receiving(path: str, content: bytes) -> list[str]:
    part = f"{path}.{secrets.token_hex(8)}.part"
    return [posixpath.dirname(path) or ".", part, path, str(len(content))]


def _ssh_conn_id(config: ResourceConfig) -> str:
    if config.ssh_conn_id is None:
        raise ValueError("a resource of type 'slurm_ssh' needs ssh_conn_id")
    return config.ssh_conn_id
