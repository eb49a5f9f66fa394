"""Text as every database takes it. PostgreSQL refuses NUL, in text and in JSON alike."""

from __future__ import annotations

import json
from typing import Any

NUL = "\0"


def plain_text(data: bytes) -> str:
    """Return what a program printed, which may be anything, with a replacement for what is no text."""
    return data.decode("utf-8", "replace").replace(NUL, "\N{REPLACEMENT CHARACTER}")


def has_nul(value: Any) -> bool:
    """Tell whether JSON data holds a NUL.

    >>> has_nul({"a": ["\\0"]}), has_nul("\\\\u0000")
    (True, False)
    """
    return "\\u0000" in json.dumps(value).replace("\\\\", "")
