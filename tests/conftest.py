"""Tests that import Airflow never touch the user's own: neither its home folder nor its settings."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from pathlib import Path

import pytest

_home = tempfile.TemporaryDirectory(prefix="fractal-tests-airflow-")

for _name in [name for name in os.environ if "AIRFLOW" in name]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = _home.name
os.environ["_AIRFLOW__AS_LIBRARY"] = "True"  # no database and no log folder in this process

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A metadata database with Airflow's tables, to be copied: made once for all test processes."""
    from tests.services.airflow import make_home

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    database = folder / "migrated" / "airflow.db"
    with (folder / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            make_home(folder / "migrating").home.rename(database.parent)
    return database
