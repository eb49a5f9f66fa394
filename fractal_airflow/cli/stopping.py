"""How a run is stopped: a signal raises an exception, wherever the process is."""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """Raised when a signal asks the run to stop."""


def listen_to_signals() -> None:
    """Let signals stop the run, but for those that the user chose to ignore."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # One is enough: what follows is the orderly end, which no second one may disturb.
    if not _received:
        _received.append(number)
        raise Stopped(f"stopped by {signal.Signals(number).name}")
