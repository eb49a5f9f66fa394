from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.airflow import AirflowHome, make_home


@pytest.fixture
def airflow(tmp_path: Path, migrated_database: Path) -> AirflowHome:
    """An Airflow of this test's own."""
    return make_home(tmp_path / "home", migrated_database)
