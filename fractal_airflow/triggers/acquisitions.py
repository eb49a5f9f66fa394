"""Watching a folder for new acquisitions: the trigger of an `AssetWatcher`."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import AsyncIterator, Hashable, Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, cast

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome, SharedStreamProducer

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.triggers.acquisitions_memory import Memory, MemoryUnavailableError, StateStore
from fractal_airflow.triggers.acquisitions_rules import MOST_AT_ONCE, Found, Judgement, Watch, acquisition_id
from fractal_airflow.triggers.acquisitions_scan import Rule
from fractal_airflow.triggers.acquisitions_stream import AcquisitionStream, Record, Round

QUIET_MINUTES = 10.0

logger = logging.getLogger(__name__)


class NewAcquisitionTrigger(BaseEventTrigger):
    """
    Reports every new folder in a folder, once, when it is complete.

    An event is ``{"id", "folder", "name", "completed_at"}``. It is stored before the watcher notes that, so a
    triggerer that is killed between the two reports the folder again, with the same ``id``: let that be known to
    who takes it. The folder is known by its name, its inode and its times: one that was moved away and back is not
    new; one of the same name in which everything is newer than what was reported is.

    All watchers of a folder that have the same ``poll_interval`` share one scan.

    :param folder: the folder to watch, as an absolute path on the triggerer's machine.
    :param pattern: which folders in it are acquisitions, such as ``2026*``. Files are not, links to folders are;
        hidden folders are if the pattern begins with a dot.
    :param marker: a file in an acquisition that says that it is complete: a name or a pattern such as ``*.mlf``,
        also in a subfolder (``Images/Index.xml``).
    :param quiet_minutes: how long nothing in the folder may have changed; with a marker, from when it is there on.
        Default: 10 minutes without a marker, 0 with one.
    :param existing_days: what to do with folders that are there when the asset looks into this folder for the first
        time: those that have changed in the last so many days are reported; older ones are taken for known, and
        so they are if they show up later (say, a share that was not mounted). None: all are reported, which is
        for a file server whose clock is days slow, too.
    :param poll_interval: the seconds between two scans.
    """

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str],
        pattern: str = "*",
        marker: str | None = None,
        quiet_minutes: float | None = None,
        existing_days: float | None = 1.0,
        poll_interval: float = 30.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check_types(folder, pattern, marker, (quiet_minutes, existing_days, poll_interval))
        if quiet_minutes is None:
            quiet_minutes = 0.0 if marker else QUIET_MINUTES
        self.folder = os.path.normpath(folder)
        self.pattern = pattern
        self.marker = marker
        self.quiet_minutes = float(quiet_minutes)
        self.existing_days = existing_days
        self.poll_interval = float(poll_interval)
        self._check()
        self._begun = False
        self._said: set[str] = set()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        return f"{__name__}.{type(self).__name__}", {
            "folder": self.folder,
            "pattern": self.pattern,
            "marker": self.marker,
            "quiet_minutes": self.quiet_minutes,
            "existing_days": self.existing_days,
            "poll_interval": self.poll_interval,
        }

    def shared_stream_key(self) -> Hashable:
        """Return what watchers that share a scan have in common; nothing on the disk is asked for that."""
        return "fractal acquisitions", self.folder, self.poll_interval

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what scans, for all watchers."""
        return AcquisitionStream(kwargs["folder"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Round]) -> AsyncIterator[TriggerEvent]:
        """Give an event for each new acquisition."""
        this: Round | None = None
        try:
            async for this in shared_stream:
                new = await self._new_in(this)
                this.goes_on |= len(new) > MOST_AT_ONCE
                for found in new[:MOST_AT_ONCE]:
                    self._watch.reported.add({found.name: found.known})
                    yield TriggerEvent(self._payload(found))
                    # Only here the event is on its way: before, it would be noted though a stop kept it back.
                    this.records.append(Record(self._memory, {found.name: found.known}))
        finally:
            if this is not None:
                this.wish(self, ())

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the same alone, where no triggerer shares its streams."""
        stream = AcquisitionStream(self.folder, self.poll_interval)

        async def rounds() -> AsyncIterator[Round]:
            async for this, _ in stream.open_stream():
                yield this
                await stream.advance([AdvanceItem(this, AdvanceOutcome(acked=1, failed=0))])

        async for event in self.filter_shared_stream(rounds()):
            yield event

    async def _new_in(self, this: Round) -> list[Found]:
        """Return the new acquisitions of a round, and say what is to be looked into at the next one."""
        try:
            if not self._begun:
                await self._begin()
            judgement = self._watch.judge(this.scan, time.monotonic())
            if judgement.found:
                # A triggerer that took this one for dead may have reported some.
                self._watch.reported.add(await self._memory.news())
        except Exception as error:
            self._say(f"Airflow does not say what of {self.folder} has been reported: waiting ({error})")
            return []
        self._take(judgement, this)
        return [found for found in judgement.found if found.name not in self._watch.reported.known]

    async def _begin(self) -> None:
        self._memory = Memory(cast("StateStore", self.asset_state_store), self.folder)
        try:
            reported = await self._memory.load()
        except ValueError as error:
            raise MemoryUnavailableError(
                "several assets have a watcher with just these arguments: give one another poll_interval"
            ) from error
        rule = Rule(self.marker, self.quiet_minutes * 60)
        self._watch = Watch(self.pattern, rule, self.existing_days, reported)
        self._said.clear()
        self._begun = True

    def _take(self, judgement: Judgement, this: Round) -> None:
        self._watch.reported.forget(judgement.gone)
        self._watch.reported.add(judgement.known)
        if judgement.gone or judgement.known:
            this.records.append(Record(self._memory, judgement.known, frozenset(judgement.gone)))
        this.wish(self, judgement.wishes, urgent=judgement.urgent)
        if judgement.passed:
            logger.info(
                "%d folders in %s were there before it was watched, and are not reported (existing_days=%s)",
                judgement.passed,
                self.folder,
                self.existing_days,
            )
        for name, problem in judgement.problems.items():
            self._say(f"{os.path.join(self.folder, name)} cannot be looked into: {problem}")  # noqa: PTH118

    def _payload(self, found: Found) -> dict[str, str]:
        path = os.path.join(self.folder, found.name)  # noqa: PTH118
        return {
            "id": acquisition_id(path, found.completed_at),
            "folder": path,
            "name": found.name,
            "completed_at": datetime.fromtimestamp(found.completed_at, UTC).isoformat(),
        }

    def _say(self, text: str) -> None:
        if text not in self._said:
            logger.warning("%s", text)
            self._said.add(text)

    def _check(self) -> None:
        """Refuse what cannot be watched, where the DAG file is parsed."""
        if not os.path.isabs(self.folder):  # noqa: PTH117
            raise WorkflowError(f"folder={self.folder!r} is not an absolute path")
        if not self.pattern or "/" in self.pattern:
            raise WorkflowError(f"pattern={self.pattern!r} is not the pattern of a name, such as '2026*'")
        if self.marker is not None:
            self._check_marker(PurePosixPath(self.marker))
        elif not self.quiet_minutes > 0:
            raise WorkflowError("Without a marker, quiet_minutes must be more than 0")
        if self.quiet_minutes < 0 or self.poll_interval <= 0 or (self.existing_days or 0) < 0:
            raise WorkflowError("quiet_minutes, existing_days and poll_interval cannot be negative")

    def _check_marker(self, marker: PurePosixPath) -> None:
        folders = marker.parts[:-1]
        if not marker.name or marker.is_absolute() or ".." in marker.parts:
            raise WorkflowError(f"marker={self.marker!r} is not a file in the acquisition")
        if any(character in part for part in folders for character in "*?["):
            raise WorkflowError(f"marker={self.marker!r}: only the file's name may be a pattern")


def _check_types(folder: object, pattern: object, marker: object, numbers: Iterable[object]) -> None:
    """Refuse what no folder, name or number can be, before anything is made of it."""
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder) or "\0" in str(folder):
        raise WorkflowError(f"folder={folder!r} is not the path of a folder")
    if not isinstance(pattern, str) or not isinstance(marker, str | None):
        raise WorkflowError(f"pattern={pattern!r}, marker={marker!r}: both must be texts")
    for number in numbers:
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number)
        ):
            raise WorkflowError(
                f"quiet_minutes, existing_days and poll_interval must be finite numbers, not {number!r}"
            )
