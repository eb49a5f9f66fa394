"""Ordinary users, who work on the tests' cluster: made for a test, and removed again."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemons import kill_all, processes

_TRIES = 50


@contextmanager
def temporary_user(home: Path, shell: str = "/bin/bash") -> Iterator[pwd.struct_passwd]:
    """Make an ordinary user without a password until the block ends; whatever then runs for it is killed."""
    name = f"fractal-{secrets.token_hex(4)}"
    # "*" is no password, but the account is open: sshd lets its keys in.
    options = ["--home-dir", str(home), "--create-home", "--password", "*", "--shell", shell]
    _change_users(["useradd", *options, name])
    user = pwd.getpwnam(name)
    try:
        yield user
    finally:
        while pids := processes_of(user.pw_uid):
            kill_all(pids)
            time.sleep(0.01)
        _change_users(["userdel", name])


def open_to(folder: Path, user: pwd.struct_passwd) -> Path:
    """Make a folder that belongs to a user; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def processes_of(uid: int) -> list[int]:
    """Return the processes of a user."""
    found = []
    for pid in processes():
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:  # noqa: PTH116
                found.append(pid)
        except FileNotFoundError:
            continue
    return found


def _change_users(command: list[str]) -> None:
    """Run a command of the password file, which only one process at a time may change."""
    for _ in range(_TRIES):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if done.returncode not in (1, 10):
            break
        time.sleep(0.1)
    raise RuntimeError(f"{command[0]}: {done.stderr}")
