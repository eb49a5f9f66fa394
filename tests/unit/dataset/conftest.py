"""Every store test runs twice: on an SQLite file, and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fractal_airflow.dataset import DatasetStore
from tests.services.postgres import PostgresServer, running_postgres
from tests.unit.dataset.changes import plate


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture
def store(store_url: str) -> DatasetStore:
    """An empty store."""
    return DatasetStore(store_url)


@pytest.fixture
def screen(store: DatasetStore) -> DatasetStore:
    """A dataset "plate" with the images a and b."""
    plate(store, "a", "b")
    return store
