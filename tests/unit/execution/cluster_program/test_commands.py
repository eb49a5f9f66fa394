"""Running SLURM's commands on a machine that is not at its best."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from fractal_airflow.execution.runner.cluster import commands
from fractal_airflow.execution.runner.cluster.errors import ProgramError


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of ``squeue``, as sites put around it, around a command that hangs."""
    script = tmp_path / "squeue"
    script.write_text("#!/bin/sh\nsleep 60 &\nwait\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return script


def test_what_a_script_around_a_command_has_started_ends_with_it(squeue: Path) -> None:
    clock = time.monotonic()

    ran = commands.run("squeue", deadline_s=0.3)

    assert ran.code is None
    assert time.monotonic() - clock < 10


def test_a_machine_that_can_start_no_process_is_asked_again_later(
    squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)

    with pytest.raises(ProgramError, match="squeue cannot be started on") as raised:
        commands.run("squeue")
    assert raised.value.kind == "busy"
