"""Small and read-only disks: a program runs in a mount namespace of its own, so nothing stays mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_OWN_MOUNTS = (
    ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
)


def run_on_tiny_disk(folder: Path, size_kb: int, program: str, *arguments: str) -> str:
    """Run a Python program while ``folder`` is a disk of this size; its output."""
    return _run(f'mount -t tmpfs -o size={size_kb}k none "$0"', folder, program, arguments)


def run_on_read_only_disk(folder: Path, program: str, *arguments: str) -> str:
    """Run a Python program while ``folder``, with what is in it, cannot be written by anybody."""
    return _run('mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"', folder, program, arguments)


def _run(mount: str, folder: Path, program: str, arguments: tuple[str, ...]) -> str:
    script = f'{mount} && exec "$@"'  # constant text: the folder and all else are arguments
    command = [*_OWN_MOUNTS, "sh", "-c", script, str(folder), sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
