"""Texts of users and tasks in Markdown: they show as they are, and mean nothing there."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&]")
_BLOCK_START = re.compile(r"^(\d*)([#+\-=.)])")
_BACKTICKS = re.compile(r"`+")
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
    line = next((each.strip() for each in text.splitlines() if each.strip()), "")
    return line if len(line) <= most else f"{line[: most - 1]}…"
