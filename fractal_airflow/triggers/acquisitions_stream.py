"""
One scan of a folder for all its watchers, as a shared stream of Airflow's.

The scan runs in a thread of its own, so that a file server that does not answer stops nothing else. What watchers
reported is written into their memories as soon as Airflow confirms that it has stored their events.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from fractal_airflow.triggers.acquisitions_memory import Memory
from fractal_airflow.triggers.acquisitions_rules import Known
from fractal_airflow.triggers.acquisitions_scan import Scan, Scanner, Wish

T = TypeVar("T")

PATIENCE_S = 60.0
"""A scan that takes longer is mentioned in the log."""

logger = logging.getLogger(__name__)


class Record(NamedTuple):
    """What is to be written into a watcher's memory."""

    memory: Memory
    known: Mapping[str, Known]
    forgotten: frozenset[str] = frozenset()


class Round:
    """
    A scan, with what its watchers want of the next one.

    :param scan: what was found.
    """

    def __init__(self, scan: Scan, stream: AcquisitionStream) -> None:
        self.scan = scan
        self.records: list[Record] = []
        self.goes_on = False
        self._stream = stream

    def wish(self, watcher: object, wishes: Iterable[Wish], *, urgent: bool = False) -> None:
        """
        Say what is to be looked into, for the next scan and all after it.

        :param urgent: whether the next scan is to be at once.
        """
        self._stream.wishes[watcher] = frozenset(wishes)
        if urgent:
            self._stream.wake.set()


class AcquisitionStream(SharedStreamProducer):
    """
    Scans a folder again and again.

    :param folder: the watched folder.
    :param poll_interval: the seconds from the end of a scan to the next one.
    """

    def __init__(self, folder: str, poll_interval: float) -> None:
        self.wishes: dict[object, frozenset[Wish]] = {}
        self.wake = asyncio.Event()
        self._scanner = Scanner(folder)
        self._poll_interval = poll_interval
        self._trouble = ""
        self._unnamed: frozenset[str] = frozenset()
        self._problems: Mapping[str, str] = {}
        self._unwritten: list[Record] = []

    async def open_stream(self) -> AsyncIterator[tuple[Round, Round]]:
        """Give a round for every scan that was complete."""
        while True:
            self.wake.clear()
            scan = await self._scan()
            if scan is not None:
                this = Round(scan, self)
                yield this, this
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval):
                    await self.wake.wait()

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Write down what was reported in rounds whose events are stored."""
        for this, outcome in batch:
            if outcome.failed:
                continue  # whose events are not stored cannot be told: rather tell of one twice than never
            self._unwritten += this.records
            if this.goes_on:
                self.wake.set()
        while self._unwritten:
            record = self._unwritten[0]
            try:
                await record.memory.save(record.known, record.forgotten)
            except Exception as error:
                logger.warning("What was reported of %s is not written down yet: %s", self._folder, error)
                return
            self._unwritten.pop(0)

    @property
    def _folder(self) -> str:
        return self._scanner.folder

    async def _scan(self) -> Scan | None:
        """Scan in a thread; None if that could not be done to its end."""
        wishes = frozenset[Wish]().union(*self.wishes.values())
        scanning = in_thread(lambda: self._scanner.scan(wishes), name=f"scan of {self._folder}")
        try:
            done, _ = await asyncio.wait({scanning}, timeout=PATIENCE_S)
            if not done:
                self._say(f"has not answered for {PATIENCE_S:.0f} s")
            scan = await scanning
        except OSError as error:
            self._say(f"cannot be read ({error})")
            return None
        if self._trouble:
            logger.info("The watched folder %s can be read again", self._folder)
            self._trouble = ""
        self._say_what_is_odd(scan)
        return scan

    def _say_what_is_odd(self, scan: Scan) -> None:
        """Mention entries that are not watched, each once as long as it is there."""
        if scan.unnamed - self._unnamed:
            logger.warning(
                "Folders in %s are not watched, since their names are not UTF-8: %s. Rename them.",
                self._folder,
                ", ".join(sorted(ascii(name) for name in scan.unnamed - self._unnamed)),
            )
        for name in scan.problems.keys() - self._problems.keys():
            logger.warning(
                "%a in %s is not watched: the file system does not say whether it is a folder (%s)",
                name,
                self._folder,
                scan.problems[name],
            )
        self._unnamed, self._problems = scan.unnamed, scan.problems

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.warning("The watched folder %s %s: waiting until it can be read", self._folder, trouble)
        self._trouble = trouble


def in_thread(function: Callable[[], T], name: str) -> asyncio.Future[T]:
    """
    Call a function in a daemon thread of its own.

    The event loop's own threads are few, and Python waits for them when it ends: a file server that hangs would
    keep them all, and the triggerer.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def work() -> None:
        result, problem = None, None
        try:
            result = function()
        except BaseException as error:
            problem = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
