"""Every transport in the same shape, so that one story is told of all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fractal_airflow.execution.slurm.transport import DEADLINE_S, AsyncTransport, Completed, Transport


class InLoop(Transport):
    """An asynchronous transport whose event loop runs in a thread, as a triggerer's does beside the test."""

    def __init__(self, inner: AsyncTransport, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop

    @property
    def where(self) -> str:  # type: ignore[override]
        return self.inner.where

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Completed:
        call = self.inner.run(argv, stdin=stdin, deadline_s=deadline_s)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.inner.close(), self._loop).result()


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
