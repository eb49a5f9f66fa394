"""The ordinary user that works on the tests' cluster, where jobs are not root's."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

USER = "fractal-tests"
_TRIES = 50


def ordinary_user() -> pwd.struct_passwd:
    """Return the user that tests submit jobs as; it is made if it is not there yet (only root can)."""
    for _ in range(_TRIES):
        try:
            return pwd.getpwnam(USER)
        except KeyError:
            pass
        # "*" is no password, but the account is open: sshd lets its keys in.
        command = ["useradd", "--create-home", "--password", "*", "--shell", "/bin/bash", USER]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode not in (0, 1, 9, 10):  # 1, 10: another test writes the file now; 9: it was faster
            raise RuntimeError(f"cannot make the user {USER}: {made.stderr}")
        time.sleep(0.1)
    raise RuntimeError(f"cannot make the user {USER}: {made.stderr}")


def open_to(folder: Path, user: pwd.struct_passwd) -> Path:
    """Make a folder that belongs to a user; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return folder
