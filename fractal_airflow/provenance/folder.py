"""A folder that is there as a whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

Files = Iterable[tuple[str, bytes]]
"""The name and the content of each file, made one after the other: together they may be large."""


def write_folder(folder: Path, files: Files) -> None:
    """
    Write a folder of files, in the place of the one that may be there.

    :raises OSError: if it cannot be written; then what was there is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    new, old = (folder.with_name(f".{mark}.{word}") for word in ("new", "old"))
    try:
        new.mkdir()
        for name, content in files:
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
