"""Which images a step need not compute again, and which it did not manage: the rules.

A record is what a step run has recorded of an image, once it is no longer submitted. What a step run has
recorded itself never counts for it: when its select is cleared, it selects the same images again.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch_plain
from fractal_airflow.dataset.records import StepRun
from fractal_airflow.dataset.rewrites import rewritten
from fractal_airflow.dataset.schema import image_status, step_run
from fractal_airflow.dataset.statuses import FAILED
from fractal_airflow.dataset.steps import step_run_ids
from fractal_airflow.dataset.versions import Head

_MANY_ROWS = 2**50
"""More than any table has."""


def unchanged(
    connection: sa.Connection, head: Head, step: StepRun, fingerprint: str, *, any_dag: bool = False
) -> set[str]:
    """The images that this step has computed already, and that nothing before it has changed since.

    The newest record of the same step of the same DAG in another run decides: its result stands, it has
    this fingerprint, and no step that comes before has written the image in a later merge.

    :param any_dag: all steps of other DAGs come before.
    """
    stands = sa.and_(image_status.c.computed, image_status.c.fingerprint == fingerprint)
    records = _newest(connection, _other_runs(connection, head, step), stands)
    if not records:
        return set()
    others = _same_step_elsewhere(step)
    return records.keys() - rewritten(connection, head, step, records, others, any_dag=any_dag)


def failed_before(connection: sa.Connection, head: Head, step: StepRun) -> set[str]:
    """The images whose newest record of this step in another run has failed, with no result that stands."""
    runs = _other_runs(connection, head, step)
    ever = sa.select(sa.exists().where(among(connection, image_status.c.step_run_id, runs), FAILED))
    return set(_newest(connection, runs, FAILED)) if connection.scalar(ever) else set()


def failed_in_run(
    connection: sa.Connection, head: Head, dag_id: str, run_id: str, before_step: int
) -> set[str]:
    """The images that failed at a step of this run before this one, with no result that stands."""
    mine = (step_run.c.dag_id == dag_id, step_run.c.run_id == run_id, step_run.c.step < before_step)
    of_these = among(connection, image_status.c.step_run_id, step_run_ids(connection, head, *mine))
    failed = sa.select(image_status.c.zarr_url).where(of_these, FAILED)
    return {url for (url,) in fetch_plain(connection, failed)}


def _other_runs(connection: sa.Connection, head: Head, step: StepRun) -> list[int]:
    return step_run_ids(connection, head, _same_step_elsewhere(step))


def _same_step_elsewhere(step: StepRun) -> sa.ColumnElement[bool]:
    """The condition that a step run is of the same step and task of the same DAG, in another run.

    Where a step was put in or taken out, those after it have the numbers that others had before.
    """
    same = (step_run.c.dag_id == step.dag_id, step_run.c.step == step.step, step_run.c.task == step.task)
    return sa.and_(*same, step_run.c.run_id != step.run_id)


def _newest(
    connection: sa.Connection, runs: Collection[int], verdict: sa.ColumnElement[bool]
) -> dict[str, int]:
    """The images whose newest record in these step runs is as the verdict says, with its merge."""
    # One number a row, which grows from record to record of an image, and is odd where the verdict holds.
    # Records from before merges had numbers are in the order of their ids, and older than all others.
    order = sa.case((image_status.c.merge > 0, image_status.c.merge), else_=image_status.c.id - _MANY_ROWS)
    code = order * 2 + sa.case((verdict, 1), else_=0)
    query = sa.select(image_status.c.zarr_url, code).where(_recorded(connection, runs))
    newest: dict[str, int] = {}
    for url, number in fetch_plain(connection, query):
        if number > newest.get(url, -2 * _MANY_ROWS):
            newest[url] = number
    return {url: max(number >> 1, 0) for url, number in newest.items() if number & 1}


def _recorded(connection: sa.Connection, runs: Collection[int]) -> sa.ColumnElement[bool]:
    mine = among(connection, image_status.c.step_run_id, runs)
    return sa.and_(mine, image_status.c.status != "submitted")
