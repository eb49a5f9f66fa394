"""Starts the demo's Airflow, and waits until it can be used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from airflow_api import AirflowApi
from airflow_home import HOST, free_port
from airflow_processes import Components, migrate_database, running_components
from command import DemoError
from layout import DAG_ID, HOME_VARIABLE, PROJECT, Layout

START_TIMEOUT_S = 180
POLL_S = 0.2


@contextmanager
def running_airflow(layout: Layout, names: Iterable[str]) -> Iterator[tuple[AirflowApi, Components]]:
    """
    Run components of Airflow until the block ends; at its start the API server answers.

    :raises DemoError: where Airflow cannot be started.
    """
    home = layout.airflow
    port = free_port()
    home.write_config(PROJECT / "dags", port)
    os.environ[HOME_VARIABLE] = str(layout.home)  # the DAG file reads it
    print("Starting Airflow ...", flush=True)
    migrate_database(home)
    with running_components(home, names) as components:
        api = AirflowApi(f"http://{HOST}:{port}")
        _wait_for(api.is_up, components, what="Airflow's API server to answer")
        yield api, components


def wait_for_dag(api: AirflowApi, components: Components) -> None:
    """
    Wait until the DAG file has been read since Airflow was started: what is known from before may be old.

    :raises DemoError: where it cannot be imported.
    """

    def is_parsed() -> bool:
        parsed = api.last_parsed(DAG_ID)
        if parsed is not None and parsed > components.started_at:
            return True
        for error in api.import_errors():
            if f"{DAG_ID}.py" in error:
                raise DemoError(error)
        return False

    _wait_for(is_parsed, components, what=f"the DAG {DAG_ID} to be read")


def _wait_for(condition: Callable[[], bool], components: Components, *, what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        components.check()
        if time.monotonic() > deadline:
            raise DemoError(f"waiting for {what} took more than {START_TIMEOUT_S} s")
        time.sleep(POLL_S)
