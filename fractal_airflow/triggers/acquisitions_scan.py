"""
Looking into a folder of acquisitions: which folders are there, and which of them are complete.

Only this touches the file system. It knows neither Airflow nor asyncio, and may block: it runs in a thread.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

MOST_ENTRIES_DATED = 100
"""How many entries of a folder are asked for their times: subfolders are few, and new files date the folder."""

STILL_S = 60.0
"""A folder whose time did not change for so long is not listed again at once for its marker."""

LIST_ANYWAY_S = 300.0
"""So often it is listed all the same: not every file system dates a folder when a file is put into it."""

SHARE_OF_TIME = 0.05
"""Walking through a plate that grows takes no more of the time than this."""


class Rule(NamedTuple):
    """When a folder is complete: as soon as a marker is there, and nothing has changed for so long."""

    marker: str | None
    quiet_s: float


class Wish(NamedTuple):
    """
    A folder that is to be looked into.

    :param unless_after: look no further if the folder has not changed since this time (a POSIX one).
    """

    name: str
    rule: Rule
    unless_after: float | None = None


class Sight(NamedTuple):
    """
    What a look into a folder found; all times are those of its file system.

    :param judged: whether the rule was applied; the first look takes the times only, which is cheap.
    :param completed_at: None if it is not complete.
    :param oldest: the time of the oldest of what lies directly in it; infinite if that is nothing.
    :param newest: the time of the newest of what lies directly in it, itself included.
    :param placed_at: since when it has been in its place, at the earliest.
    """

    judged: bool
    completed_at: float | None = None
    oldest: float = math.inf
    newest: float = -math.inf
    placed_at: float = -math.inf
    problem: str = ""


class Scan(NamedTuple):
    """
    What is in a watched folder: the inode of each folder, and what the looks into some found.

    :param unnamed: the folders whose names are no text, so that nobody could be told of them.
    :param problems: entries of which the file system does not say whether they are folders, and why not.
    """

    folders: dict[str, int]
    unnamed: frozenset[str]
    sights: dict[Wish, Sight]
    problems: Mapping[str, str] = MappingProxyType({})


class Scanner:
    """
    Scans one watched folder, and keeps what must be known of the looks before.

    :param folder: an absolute path.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._clock = clock
        self._candidates: dict[tuple[Wish, int], Candidate] = {}

    def scan(self, wishes: Iterable[Wish] = ()) -> Scan:
        """
        List the folders, and look into some.

        :raises OSError: where the watched folder cannot be listed to its end.
        """
        folders, unnamed, problems = list_folders(self.folder)
        known, self._candidates = self._candidates, {}
        sights = {}
        for wish in wishes:
            if wish.name in folders:
                key = wish, folders[wish.name]
                path = os.path.join(self.folder, wish.name)  # noqa: PTH118 - for thousands of folders
                self._candidates[key] = known.get(key) or Candidate(path, wish.rule, wish.unless_after)
                sights[wish] = self._candidates[key].look(self._clock())
        return Scan(folders, unnamed, sights, problems)


def list_folders(folder: str) -> tuple[dict[str, int], frozenset[str], dict[str, str]]:
    """
    Return the inodes of the folders in a folder (links to folders are such), and names that are no text.

    An entry that cannot be told, such as a link that leads to itself, stops nothing: it is a problem of its own.

    :raises OSError: where the folder itself cannot be listed.
    """
    folders, unnamed, problems = {}, set(), {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                problems[entry.name] = error.strerror or str(error)
                continue
            if is_folder:
                if is_text(entry.name):
                    folders[entry.name] = entry.inode()
                else:
                    unnamed.add(entry.name)
    return folders, frozenset(unnamed), problems


def is_text(name: str) -> bool:
    """Tell whether a file name can be written as UTF-8: one that is bytes of another encoding cannot."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


class Candidate:
    """A folder that has not been reported yet, looked into again and again."""

    def __init__(self, path: str, rule: Rule, unless_after: float | None = None) -> None:
        self._path = path
        self._unless_after = unless_after
        self._marker = Marker(path, rule.marker) if rule.marker else None
        self._quiet = Quiet(path, rule.quiet_s) if rule.quiet_s else None
        self._dated: Sight | None = None

    def look(self, now: float) -> Sight:
        """Look into the folder; the first time, only at what its times are."""
        try:
            if self._dated is None:
                self._dated = self._date()
                return self._dated
            completed_at = self._completed_at(now)
            seen = self._dated if completed_at is None else self._date()
            return seen._replace(judged=True, completed_at=completed_at)
        except OSError as error:
            return Sight(judged=True, problem=str(error))

    def _date(self) -> Sight:
        folder = os.stat(self._path)  # noqa: PTH116
        if self._unless_after is not None and folder.st_mtime <= self._unless_after:
            return Sight(False, None, folder.st_mtime, folder.st_mtime, folder.st_ctime)
        with os.scandir(self._path) as entries:
            times = [
                entry.stat(follow_symlinks=False).st_mtime for entry in islice(entries, MOST_ENTRIES_DATED)
            ]
        return Sight(
            False, None, min(times, default=math.inf), max([*times, folder.st_mtime]), folder.st_ctime
        )

    def _completed_at(self, now: float) -> float | None:
        marked_at = self._marker.found(now) if self._marker else None
        if self._marker and marked_at is None:
            return None
        quiet_since = self._quiet.since(now) if self._quiet else None
        if self._quiet and quiet_since is None:
            return None
        return marked_at if marked_at is not None else quiet_since


class Marker:
    """Whether the file is there that says that an acquisition is complete."""

    def __init__(self, path: str, marker: str) -> None:
        subfolder, self._pattern = os.path.split(marker)
        self._folder = os.path.join(path, subfolder) if subfolder else path  # noqa: PTH118
        self._time: int | None = None
        self._since = 0.0
        self._due = -math.inf

    def found(self, now: float) -> float | None:
        """Return the time of the marker; None if it is not there."""
        try:
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116
            if changed != self._time:
                self._time, self._since = changed, now
            elif now - self._since > STILL_S and now < self._due:
                return None  # it was not there, and a new file would most likely have dated the folder
            self._due = now + LIST_ANYWAY_S
            found = self._find()
        except FileNotFoundError:
            return None  # a subfolder that is still to come
        if found is not None:
            self._time = None
        return found

    def _find(self) -> float | None:
        with os.scandir(self._folder) as entries:
            times = [
                entry.stat().st_mtime
                for entry in entries
                if fnmatchcase(entry.name, self._pattern) and entry.is_file()
            ]
        return max(times, default=None)


class Quiet:
    """
    Whether nothing in a folder, however deep, has changed for some time.

    Only this machine's clock counts, since that of a file server may be wrong: two walks so far apart must find
    the same. In between, the file that was the newest tells at little cost that the plate still grows.
    """

    def __init__(self, path: str, quiet_s: float) -> None:
        self._path = path
        self._quiet_s = quiet_s
        self._found: Walk | None = None
        self._since = 0.0
        self._due = -math.inf
        self._cost_s = 0.0

    def since(self, now: float) -> float | None:
        """Return the time of the last change; None if that is not long ago."""
        if self._found is not None and not self._found.is_up_to_date():
            self._found = None
            self._due = now + self._cost_s / SHARE_OF_TIME
        if now < self._due:
            return None
        started = time.perf_counter()
        found = walk(self._path)
        self._cost_s = time.perf_counter() - started
        if self._found is None or found.traces != self._found.traces:
            self._found, self._since = found, now
        self._due = self._since + self._quiet_s
        if now < self._due or not found.files:
            return None
        return found.newest


class Walk(NamedTuple):
    """
    What a walk through a folder found.

    :param traces: the number of entries, the sum of their sizes, and that of their times.
    :param newest: the time of the newest.
    :param trail: the newest and the folders above it, with their times and sizes.
    """

    files: int
    traces: tuple[int, int, int]
    newest: float
    trail: tuple[tuple[str, int, int], ...]

    def is_up_to_date(self) -> bool:
        """Tell whether the newest, and the folders above it, are as they were."""
        top = self.trail[-1][0]
        try:
            return all(_state(path, top) == (time_ns, size) for path, time_ns, size in self.trail)
        except FileNotFoundError:
            return False


def walk(path: str) -> Walk:
    """
    Walk through all that is in a folder; symbolic links are not followed.

    :raises OSError: where a part of it cannot be read.
    """
    files = entries_seen = sizes = times = 0
    newest, newest_path = os.stat(path).st_mtime_ns, path  # noqa: PTH116
    times += newest
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    entries_seen += 1
                    times += found.st_mtime_ns
                    if found.st_mtime_ns > newest:
                        newest, newest_path = found.st_mtime_ns, entry.path
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(entry.path)
                    else:
                        files += 1
                        sizes += found.st_size
        except FileNotFoundError:
            continue  # it went while it was read: the next walk finds another number
    trail = tuple((each, *_state(each, path)) for each in _up_to(path, newest_path))
    return Walk(files, (entries_seen, sizes, times), newest / 1e9, trail)


def _state(path: str, top: str) -> tuple[int, int]:
    found = os.stat(path, follow_symlinks=path == top)  # noqa: PTH116
    return found.st_mtime_ns, found.st_size


def _up_to(top: str, path: str) -> list[str]:
    """Return a path and all above it, up to a folder that it lies in."""
    found = [path]
    while found[-1] != top:
        found.append(os.path.dirname(found[-1]))  # noqa: PTH120
    return found
