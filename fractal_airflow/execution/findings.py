"""What came of checking a resource, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    :param advice: what to do, where something is wrong.
    """

    check: str
    status: Literal["ok", "warning", "error"]
    message: str
    advice: str = ""


def is_well(findings: Iterable[Finding]) -> bool:
    """Tell whether a resource can be used."""
    return all(finding.status != "error" for finding in findings)


def megabytes_text(megabytes: float) -> str:
    """
    Return an amount of memory or space, in MB, as people read it.

    >>> megabytes_text(4000), megabytes_text(64_000)
    ('4000 MB', '64 GB')
    """
    return f"{megabytes:.0f} MB" if megabytes < 10_000 else f"{megabytes / 1000:.0f} GB"


def sentence(text: str) -> str:
    """
    Return a text with a capital letter and a full stop; nothing stays nothing.

    >>> sentence("root on login1")
    'Root on login1.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
