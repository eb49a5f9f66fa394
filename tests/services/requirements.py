"""What real services need of the machine: without it their tests are skipped, and in CI they fail."""

from __future__ import annotations

import os
import shutil

import pytest

# Daemons are in folders that an ordinary user's PATH may lack.
_SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def program(name: str) -> str | None:
    """Return the path of an installed program, daemons included."""
    return shutil.which(name, path=_SEARCHED)


def need(*programs: str, root: bool = False, install: str = "") -> None:
    """
    Skip the test that asks where this machine lacks something; under ``CI=true`` it fails.

    :param programs: names of programs.
    :param root: whether only root can do it.
    :param install: the packages that have what is missing.
    """
    if reason := missing(*programs, root=root, install=install):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to have this: {reason}")
        pytest.skip(reason)


def missing(*programs: str, root: bool = False, install: str = "") -> str:
    """Say what is missing; nothing where all is there."""
    absent = [name for name in programs if program(name) is None]
    if absent:
        hint = f" (apt-get install {install})" if install else ""
        return f"not installed: {', '.join(absent)}{hint}"
    if root and os.geteuid() != 0:
        return "only root can start services that run programs as another user"
    return ""
