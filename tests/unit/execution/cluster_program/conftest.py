from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.execution.cluster_program.calls import Program
from tests.unit.execution.cluster_program.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A SLURM whose commands are found first, and alone."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setattr("fractal_airflow.execution.runner.cluster.commands._USUAL_FOLDERS", ())
    monkeypatch.setenv("PATH", str(fake.bin))
    return fake


@pytest.fixture
def program(tmp_path: Path, slurm: FakeSlurm) -> Program:
    """The cluster program, asked about batches in a work folder."""
    return Program(tmp_path / "work")
