from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.airflow import AirflowHome, make_home


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A metadata database with Airflow's tables, to be copied."""
    return make_home(tmp_path_factory.mktemp("migrated") / "home").home / "airflow.db"


@pytest.fixture
def airflow(tmp_path: Path, migrated_database: Path) -> AirflowHome:
    """An Airflow of this test's own."""
    return make_home(tmp_path / "home", migrated_database)
