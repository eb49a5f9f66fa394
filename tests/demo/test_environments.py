from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from environments import CORE, STAMP, find_uv
from layout import Layout

from tests.demo import PROJECT


def copy_of_stamp(shared: Layout, folder: Path) -> Path:
    """An environment that looks like the shared one, without its packages."""
    copied = CORE.folder(folder)
    (copied / "bin").mkdir(parents=True)
    (copied / "bin" / "python").symlink_to(CORE.python(shared.environments))
    (copied / STAMP).write_text((CORE.folder(shared.environments) / STAMP).read_text())
    return copied


def test_second_set_up_takes_well_under_a_second(shared: Layout) -> None:
    start = time.monotonic()
    subprocess.run([sys.executable, PROJECT / "demo" / "environments.py", shared.environments], check=True)

    assert time.monotonic() - start < 1


def test_whole_environment_is_kept(shared: Layout, tmp_path: Path) -> None:
    copy_of_stamp(shared, tmp_path)

    assert CORE.is_made(tmp_path)


def test_interrupted_environment_is_made_again(shared: Layout, tmp_path: Path) -> None:
    (copy_of_stamp(shared, tmp_path) / STAMP).unlink()

    assert not CORE.is_made(tmp_path)


def test_environment_of_another_version_is_made_again(shared: Layout, tmp_path: Path) -> None:
    copy_of_stamp(shared, tmp_path)

    assert not replace(CORE, version="2.0.0").is_made(tmp_path)


def test_environment_without_its_interpreter_is_made_again(shared: Layout, tmp_path: Path) -> None:
    (copy_of_stamp(shared, tmp_path) / "bin" / "python").unlink()

    assert not CORE.is_made(tmp_path)


def test_missing_uv_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(FileNotFoundError, match="uv is missing"):
        find_uv()
