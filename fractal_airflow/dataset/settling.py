"""Runs that ended before they merged: what was submitted to them has failed there."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from fractal_airflow.dataset.records import ImageStatus
from fractal_airflow.dataset.schema import image_status, step_run
from fractal_airflow.dataset.statuses import SUBMITTED, write_statuses
from fractal_airflow.dataset.steps import count_merge
from fractal_airflow.dataset.versions import Head

Run = tuple[str, str]
"""A DAG run: its dag_id and run_id."""

GOING_ON = ("queued", "running")


def waiting_runs(connection: sa.Connection, head: Head) -> list[Run]:
    """The DAG runs that images are submitted to."""
    waits = sa.exists().where(image_status.c.step_run_id == step_run.c.id, SUBMITTED)
    query = sa.select(step_run.c.dag_id, step_run.c.run_id).distinct()
    return [
        (dag_id, run_id)
        for dag_id, run_id in connection.execute(query.where(step_run.c.dataset_id == head.id, waits))
    ]


def settle(connection: sa.Connection, head: Head, ended: Mapping[Run, str | None]) -> int:
    """Record that what is still submitted to these runs has failed, and return how many images that is.

    :param ended: the state that each run ended in; None for one that is gone.
    """
    left = sa.and_(image_status.c.step_run_id == step_run.c.id, SUBMITTED)
    query = sa.select(step_run.c.id, step_run.c.dag_id, step_run.c.run_id)
    query = query.where(step_run.c.dataset_id == head.id, sa.exists().where(left))
    errors = {
        own_id: _error(ended[dag_id, run_id])
        for own_id, dag_id, run_id in connection.execute(query)
        if (dag_id, run_id) in ended
    }
    if not errors:
        return 0
    number = count_merge(connection, head, errors)
    return sum(_settle_step(connection, own_id, error, number) for own_id, error in errors.items())


def _error(state: str | None) -> str:
    how = "was deleted" if state is None else f"ended ({state})"
    return f"The DAG run {how} before the results of this step were merged: what became of it is not known"


def _settle_step(connection: sa.Connection, own_id: int, error: str, number: int) -> int:
    columns = (image_status.c.zarr_url, image_status.c.fingerprint)
    submitted = sa.select(*columns).where(image_status.c.step_run_id == own_id, SUBMITTED)
    failed = [
        ImageStatus(url, "failed", fingerprint=fingerprint, error=error)
        for url, fingerprint in connection.execute(submitted)
    ]
    write_statuses(connection, own_id, failed, number)
    return len(failed)
