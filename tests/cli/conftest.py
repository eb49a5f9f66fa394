from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.services.airflow import AirflowHome
from tests.services.postgres import PostgresServer, running_postgres


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def airflow(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    """An Airflow that was never used: no database, no configuration."""
    home = tmp_path / "home"
    temporary = tmp_path / "tmp"
    settings = {
        "TMPDIR": str(temporary),
        # Compiled once for all tests, where Python may not write beside its modules: half of a command's start.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(tmp_path_factory.getbasetemp().parent / "pycache"),
    }
    airflow = AirflowHome(home, settings)
    for folder in (airflow.dags, airflow.data, temporary):
        folder.mkdir(parents=True)
    return airflow


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test process."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def call(airflow: AirflowHome, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in this process: all of it but the start of Python, and of a run's own process."""
    from airflow.cli.cli_parser import get_parser

    database = airflow.home / "airflow.db"
    for name, value in {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
        "AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE": str(airflow.home / "fractal_datasets.db"),
        "AIRFLOW__FRACTAL_AIRFLOW__WORK_DIR": str(airflow.runs),
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)

    def no_run(*args: object) -> None:
        raise AssertionError("the run was not refused")

    monkeypatch.setattr(os, "execve", no_run)

    def call(*argv: str) -> Ended:
        code = 0
        capfd.readouterr()
        try:
            args = get_parser().parse_args(["fractal", *argv])
            args.func(args)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert not database.exists()
        return Ended(code, out, err)

    return call


@pytest.fixture(autouse=True)
def tidy(tmp_path: Path) -> Iterator[None]:
    """No command may leave a temporary folder behind."""
    yield
    with contextlib.suppress(FileNotFoundError):
        assert list((tmp_path / "tmp").iterdir()) == []
