"""Where commands find Airflow's connections."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import conf
from sqlalchemy import make_url


def look_into_airflows_database() -> None:
    """
    Let connections be found in Airflow's metadata database, too, as Airflow's own commands do.

    An SQLite file that is not there yet is not made by looking into it.
    """
    if has_airflows_database():
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def has_airflows_database() -> bool:
    """Tell whether there is a metadata database: an SQLite file may not be there (yet)."""
    url = make_url(conf.get("database", "sql_alchemy_conn"))
    return url.get_backend_name() != "sqlite" or Path(url.database or "").is_file()
