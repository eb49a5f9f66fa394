"""The runner as one file: a zip application that any Python >= 3.9 runs, with nothing else installed."""

from __future__ import annotations

import functools
import hashlib
import io
import secrets
import zipfile
from pathlib import Path

RUNNER_FILE = "runner.pyz"
PROGRAM_FOLDER = ".fractal"  # in a work folder; runs have no names that begin with a dot

_SOURCES = Path(__file__).parent / "runner"
_PACKAGE = "_fractal_runner"  # no module of a task has this name
_MAIN = "__main__.py"


@functools.cache
def runner_archive() -> bytes:
    """Return the content of the file; the same sources always give the same content."""
    content = io.BytesIO()
    # Not compressed: a Python without zlib can read it.
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for source in sorted(_SOURCES.rglob("*.py")):
            place = source.relative_to(_SOURCES).as_posix()
            name = _MAIN if place == _MAIN else f"{_PACKAGE}/{place}"
            archive.writestr(zipfile.ZipInfo(name), source.read_bytes())  # dated 1980
    return content.getvalue()


@functools.cache
def runner_name() -> str:
    """Return the name of the file where many versions of it may lie side by side, as on a cluster."""
    return f"runner-{hashlib.sha256(runner_archive()).hexdigest()[:16]}.pyz"


def program_path(work_dir: str) -> str:
    """Return where the file lies on a cluster, below the resource's work folder."""
    return f"{work_dir.rstrip('/')}/{PROGRAM_FOLDER}/{runner_name()}"


def write_runner(folder: Path) -> Path:
    """Write the file into a folder, as a whole or not at all; return its path.

    :raises OSError: if it cannot be written.
    """
    path = folder / RUNNER_FILE
    unfinished = folder / f".{RUNNER_FILE}-{secrets.token_hex(6)}"
    try:
        unfinished.write_bytes(runner_archive())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
