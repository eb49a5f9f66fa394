from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from fractal_airflow.exceptions import DatasetStoreError
from fractal_airflow.hooks.dataset_store import get_dataset_store, store_url


class TestStoreUrl:
    def test_postgresql(self) -> None:
        connection = Connection(
            conn_id="lab",
            conn_type="postgres",
            host="db.lab",
            port=5433,
            login="me",
            password="p@ss/wörd",
            schema="images",
            extra=json.dumps({"sslmode": "require", "connect_timeout": 5}),
        )

        assert store_url(connection) == (
            "postgresql+psycopg://me:p%40ss%2Fw%C3%B6rd@db.lab:5433/images?connect_timeout=5&sslmode=require"
        )

    def test_sqlite_by_a_uri(self) -> None:
        connection = Connection.from_uri("sqlite:///%2Fdata%2Fmy%20images.db", conn_id="lab")

        assert store_url(connection) == "sqlite:////data/my images.db"

    def test_sqlite_by_the_form(self) -> None:
        connection = Connection(conn_id="lab", conn_type="sqlite", host="/data/images.db")

        assert store_url(connection) == "sqlite:////data/images.db"

    def test_another_kind_of_database_is_refused(self) -> None:
        with pytest.raises(
            DatasetStoreError, match="'lab' is of type 'mysql': the dataset store wants postgres"
        ):
            store_url(Connection(conn_id="lab", conn_type="mysql", host="db"))


class TestGetDatasetStore:
    def test_by_default_it_is_the_file_that_the_configuration_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE", str(tmp_path / "my images?.db"))

        get_dataset_store().create("plate", "/data")

        assert (tmp_path / "my images?.db").exists()

    def test_a_connection_takes_the_place_of_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection: dict[str, Any] = {"conn_type": "sqlite", "host": str(tmp_path / "other.db")}
        monkeypatch.setenv("AIRFLOW_CONN_LAB_STORE", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID", "lab_store")

        get_dataset_store().create("plate", "/data")

        assert (tmp_path / "other.db").exists()

    def test_a_connection_that_does_not_exist_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__FRACTAL_AIRFLOW__DATASET_CONN_ID", "lab_store")

        with pytest.raises(DatasetStoreError, match="'lab_store', which does not exist: add it"):
            get_dataset_store()
