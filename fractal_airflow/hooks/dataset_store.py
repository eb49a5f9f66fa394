"""The dataset store that Airflow's configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from fractal_airflow.exceptions import DatasetStoreError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from fractal_airflow.dataset import DatasetStore

_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}


def get_dataset_store() -> DatasetStore:
    """
    Open the dataset store of this Airflow: ``[fractal_airflow] dataset_conn_id``, else ``dataset_file``.

    :raises DatasetStoreError: where the connection is missing or of another kind.
    """
    from fractal_airflow.dataset import DatasetStore

    conn_id = conf.get("fractal_airflow", "dataset_conn_id", fallback="")
    if not conn_id:
        return DatasetStore(Path(conf.get("fractal_airflow", "dataset_file")))
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise DatasetStoreError(
            f"[fractal_airflow] dataset_conn_id names the connection {conn_id!r}, which does not exist: "
            "add it (type postgres or sqlite), or leave the setting empty to use an SQLite file"
        ) from None
    return DatasetStore(store_url(connection))


def store_url(connection: Connection) -> str:
    """Return the SQLAlchemy URL of the dataset store that an Airflow connection describes."""
    from sqlalchemy.engine import URL

    driver = _DRIVERS.get(connection.conn_type or "")
    if driver is None:
        raise DatasetStoreError(
            f"The Airflow connection {connection.conn_id!r} is of type {connection.conn_type!r}: "
            "the dataset store wants postgres or sqlite"
        )
    if driver == "sqlite":
        return URL.create(driver, database=connection.host or connection.schema).render_as_string()
    url = URL.create(
        driver,
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query={key: str(value) for key, value in connection.extra_dejson.items()},
    )
    return url.render_as_string(hide_password=False)
