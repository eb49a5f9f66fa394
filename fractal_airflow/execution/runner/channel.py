"""Messages between the scheduler and a generation: lines of JSON through a pipe each way."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from .processes import close_fds


class End:
    """One end of a channel.

    :param fd: where messages come in; closed by the other side's end.
    """

    def __init__(self, fd: int, write_fd: int) -> None:
        self.fd = fd
        self._write_fd = write_fd
        self._unread = b""

    @property
    def fds(self) -> tuple[int, int]:
        """Both file descriptors."""
        return (self.fd, self._write_fd)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; if the other side is gone, receiving says so."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write_fd, json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come, waiting for some; None if the other side is gone."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Let the other side know that nothing more will come."""
        close_fds(self.fds)


def make_channel() -> tuple[End, End]:
    """Return both ends of a new channel: the scheduler's and the generation's."""
    commands_read, commands_write = os.pipe()
    reports_read, reports_write = os.pipe()
    return End(reports_read, commands_write), End(commands_read, reports_write)
