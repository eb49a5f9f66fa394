"""Warnings in a unit's log: the lines of Python's ``warnings``, and those that programs log as WARNING."""

from __future__ import annotations

import os
import re

from .text import plain_text

MOST_WARNINGS = 5
MOST_CHARACTERS = 200
MOST_BYTES = 256 * 1024  # of a log that are read at its beginning, and as many at its end

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TIME = re.compile(r"^\W?\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?\W*\s")
_FOLDER = re.compile(r"^/\S*/(?=[^/\s]+:\d+: )")

# FILE:LINE: UserWarning: text; also without the place, as some programs show them
_OF_PYTHON = re.compile(r"(^|:\d+: |\s)[A-Z]\w*Warning: \S")

# WARNING:name:text, [WARNING] text, TIME - name - WARNING - text, TIME; WARNING; text, TIME name WARNING text
_LOGGED = re.compile(
    r"""^(?P<before>.{0,160}?)
        (?:(?:^|[\s;|,:])WARN(?:ING)?\s*(?:[:;|,]|\s-\s)|[\[(<]WARN(?:ING)?\s*[\])>]|(?P<spaced>(?:^|\s)WARN(?:ING)?\s))
        \s*\S""",
    re.VERBOSE,
)
_OTHER_LEVEL = re.compile(r"\b(TRACE|DEBUG|INFO|NOTICE|SUCCESS|ERROR|CRITICAL|FATAL)\b")


def log_warnings(path: str, start: int = 0) -> list[str]:
    """Return the first warnings of a log file; of a very long one, of its beginning and its end.

    :param start: the place from which on lines count: where a unit's own try began.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(start)
            data = file.read(MOST_BYTES)
            left = size - start - len(data)
            if left > 0:
                file.seek(max(file.tell(), size - MOST_BYTES))
                data += b"\n" + file.read(MOST_BYTES).partition(b"\n")[2]
    except OSError:
        return []
    if b"WARN" not in data and b"Warning: " not in data:  # as of most units
        return []
    return warnings_in(plain_text(data))


def warnings_in(text: str) -> list[str]:
    """Return the first few warnings of a log, without times and colours, each once and cut to some length.

    >>> warnings_in("/opt/lib/zarr/core.py:12: UserWarning: slow chunks\\n  warnings.warn(...)")
    ['core.py:12: UserWarning: slow chunks']
    """
    found: dict[str, None] = {}
    for raw in text.splitlines():
        if "WARN" not in raw and "Warning: " not in raw:
            continue
        full = _COLOUR.sub("", raw).strip()
        line = _TIME.sub("", full)
        if _OF_PYTHON.search(line[:1000]) or _is_logged(line, dated=line != full):
            found[_cut(_FOLDER.sub("", line))] = None
            if len(found) == MOST_WARNINGS:
                break
    return list(found)


def _is_logged(line: str, *, dated: bool) -> bool:
    match = _LOGGED.match(line)
    if match is None or _OTHER_LEVEL.search(match["before"]):
        return False
    # A lone word may be one of a sentence: it is the level where the line begins with it, or with a time.
    return dated or match["spaced"] is None or match.start("spaced") == 0


def _cut(line: str) -> str:
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 2].rstrip() + " …"
