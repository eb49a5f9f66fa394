"""Texts of users and tasks in Markdown: they show as they are, and mean nothing there."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&]")
_BLOCK_START = re.compile(r"^(\d*)([#+\-=.)])")
_BACKTICKS = re.compile(r"`+")
LOG_TAIL = "Last lines of "
"""How the second line of a unit's error begins, where the end of its log follows."""

_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


def plain(text: str) -> str:
    """Return a text as one line of Markdown, in which nothing has a meaning."""
    return _BLOCK_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", one_line(text)))


def code(text: str) -> str:
    """Return a text as one line of code; not for the cell of a table, which ends at ``|``."""
    line = one_line(text)
    fence = "`" * (max((len(run) for run in _BACKTICKS.findall(line)), default=0) + 1)
    pad = " " if not line or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def link(text: str, address: str) -> str:
    """Return a link; the address is percent-encoded where Markdown would end it."""
    safe = re.sub(r"[\s<>()\"\\]", lambda match: f"%{ord(match.group()):02X}", address)
    return f"[{plain(text)}]({safe})"


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters."""
    return _BREAKS.sub(" ", text).strip()


def first_line(text: str, most: int = 300) -> str:
    """Return the first line of a text that has anything in it, cut where it is long."""
    return cut(next((each.strip() for each in text.splitlines() if each.strip()), ""), most)


def error_line(error: str, most: int = 300) -> str:
    """Return a unit's error as one line: its first, and what the task said last, where the error has that."""
    first = first_line(error, most)
    lines = [each.strip() for each in error.splitlines() if each.strip()]
    says_more = len(lines) > 2 and lines[1].startswith(LOG_TAIL)
    return cut(f"{first}: {lines[-1]}", most) if says_more else first


def cut(text: str, most: int) -> str:
    """Return a text, without its end where it is long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
