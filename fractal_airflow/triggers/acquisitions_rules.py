"""
Which folders are new acquisitions, which are known, and which must be looked into.

Pure: from what a scan found and what has been reported to what is to be done.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import sha256
from typing import NamedTuple

from fractal_airflow.triggers.acquisitions_scan import Rule, Scan, Sight, Wish

MOST_AT_ONCE = 20
"""More acquisitions are reported in the rounds that follow: each is a transaction of the triggerer's."""

RECHECK_S = 600.0
"""How often the times of all known folders are asked for: one may have been replaced between two scans."""

DAY_S = 86400.0


class Known(NamedTuple):
    """A folder that was reported, or was there before: its inode, and the time of the newest in it then."""

    inode: int
    newest: float


class Found(NamedTuple):
    """A new acquisition."""

    name: str
    known: Known
    completed_at: float


class Reported:
    """
    What a watcher has reported, or passed over.

    :param first_look_at: when it looked for the first time (a POSIX time).
    """

    def __init__(self, first_look_at: float) -> None:
        self.first_look_at = first_look_at
        self.known: dict[str, Known] = {}
        self.inodes: dict[str, int] = {}
        self._forgotten: dict[str, Known] = {}

    def add(self, known: Mapping[str, Known]) -> None:
        """Take folders for known, but those that were forgotten as just that."""
        for name, each in known.items():
            if self._forgotten.get(name) != each:
                self.known[name] = each
                self.inodes[name] = each.inode

    def forget(self, names: Iterable[str]) -> None:
        """Take folders for unknown."""
        for name in names:
            self._forgotten[name] = self.known.pop(name)
            del self.inodes[name]


@dataclass
class Judgement:
    """
    What a scan means to a watcher.

    :param found: new acquisitions, the first completed first.
    :param known: folders that were there before the watcher was, or are elsewhere on the disk now.
    :param gone: folders that were known, and are other ones now.
    :param wishes: what is to be looked into at the next scan.
    :param urgent: whether that need not wait for its time.
    :param passed: how many of the known were there before.
    """

    found: list[Found] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    wishes: set[Wish] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    urgent: bool = False
    passed: int = 0


class Watch:
    """
    The eye of one watcher.

    :param pattern: which folders it is for.
    :param existing_days: folders that had not changed for so long when it looked for the first time are known.
    """

    def __init__(self, pattern: str, rule: Rule, existing_days: float | None, reported: Reported) -> None:
        self.reported = reported
        self._pattern = re.compile(translate(pattern)).match
        self._sees_hidden = pattern.startswith(".")
        self._rule = rule
        self._existing_s = None if existing_days is None else existing_days * DAY_S
        self._suspects: set[str] = set()
        self._recheck_at = -math.inf

    def judge(self, scan: Scan, now: float) -> Judgement:
        """
        Tell what a scan means; nothing is taken for reported by that.

        :param now: a time in seconds, on any clock that only goes on.
        """
        judgement = Judgement()
        if now >= self._recheck_at:
            self._suspects, self._recheck_at = set(self.reported.known), now + RECHECK_S
        for name in self._unsure(scan.folders):
            if not self.matches(name):
                continue
            known = self.reported.known.get(name)
            wish = Wish(name, self._rule, known.newest if known else None)
            sight = scan.sights.get(wish)
            if sight is None or sight.problem:
                judgement.wishes.add(wish)
                judgement.urgent |= sight is None
                if sight:
                    judgement.problems[name] = sight.problem
            elif known is not None:
                self._judge_known(name, scan.folders[name], known, sight, judgement)
            else:
                self._judge_new(wish, scan.folders[name], sight, judgement)
        judgement.found.sort(key=lambda found: (found.completed_at, found.name))
        return judgement

    def matches(self, name: str) -> bool:
        """Tell whether the pattern fits; as in a shell, hidden folders are for patterns with a dot."""
        return (self._sees_hidden or not name.startswith(".")) and bool(self._pattern(name))

    def _unsure(self, folders: dict[str, int]) -> set[str]:
        """Return the folders that are not surely those that were reported."""
        inodes = self.reported.inodes
        self._suspects |= inodes.keys() - folders.keys()
        return {name for name, _ in folders.items() - inodes.items()} | (self._suspects & folders.keys())

    def _judge_known(self, name: str, inode: int, known: Known, sight: Sight, judgement: Judgement) -> None:
        self._suspects.discard(name)
        if sight.oldest > known.newest:
            judgement.gone.add(name)  # all in it is newer than what was reported: another acquisition
            judgement.wishes.add(Wish(name, self._rule))
            judgement.urgent = True
        elif inode != known.inode:
            judgement.known[name] = Known(inode, known.newest)

    def _judge_new(self, wish: Wish, inode: int, sight: Sight, judgement: Judgement) -> None:
        if self._was_there_before(sight):
            judgement.known[wish.name] = Known(inode, sight.newest)
            judgement.passed += 1
        elif sight.completed_at is None:
            judgement.wishes.add(wish)
            judgement.urgent |= not sight.judged
        else:
            judgement.wishes.add(wish)  # as long as it is not reported, what is known of it is kept
            judgement.found.append(Found(wish.name, Known(inode, sight.newest), sight.completed_at))

    def _was_there_before(self, sight: Sight) -> bool:
        if self._existing_s is None:
            return False
        first_look_at = self.reported.first_look_at
        return sight.newest < first_look_at - self._existing_s and sight.placed_at < first_look_at


def acquisition_id(path: str, completed_at: float) -> str:
    """Return what an acquisition is known by: the same folder, completed at the same time, is the same."""
    return sha256(f"{path}\0{completed_at!r}".encode()).hexdigest()[:16]
