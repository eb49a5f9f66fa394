"""Signals as bytes of a pipe, so that one loop waits for them along with everything else."""

from __future__ import annotations

import os
import select
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """The signals that come to this process."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whatever the parent had blocked
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def read(self) -> bytes:
        """Return the numbers of the signals that came."""
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    def wait(self, seconds: float) -> bytes:
        """Wait for a signal."""
        select.select([self.fd], [], [], seconds)
        return self.read()

    def forget(self) -> None:
        """In a child: give the signals their usual meaning back."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self.fd)
        os.close(self._write_fd)


def is_ending(numbers: bytes) -> bool:
    """Tell whether a signal that asks for the end is among those that came."""
    return any(number != signal.SIGCHLD for number in numbers)
