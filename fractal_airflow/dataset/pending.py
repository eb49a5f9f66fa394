"""Which images a step need not compute again, and which it did not manage: the rules.

A record is what a step run has recorded of an image, once it is no longer submitted. What a step run has
recorded itself never counts for it: when its select is cleared, it selects the same images again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, fetch_plain
from fractal_airflow.dataset.records import StepRun
from fractal_airflow.dataset.schema import image_status, image_write, step_run
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
    if records:
        for url in _rewritten(connection, head, step, records, any_dag):
            records.pop(url, None)
    return set(records)


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
    """The step runs of the same step and task of the same DAG in other runs.

    Where a step was put in or taken out, those after it have the numbers that others had before.
    """
    same = (step_run.c.dag_id == step.dag_id, step_run.c.step == step.step, step_run.c.task == step.task)
    return step_run_ids(connection, head, *same, step_run.c.run_id != step.run_id)


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


def _rewritten(
    connection: sa.Connection, head: Head, step: StepRun, records: Mapping[str, int], any_dag: bool
) -> Iterator[str]:
    """The images that a step before this one has written after their records.

    In the same DAG, the steps with lower numbers come before. A step of another DAG comes before for the
    images that it made, and for those that it wrote before this step had recorded them for the first time.
    (Else two DAGs that edit the same images in place would wake each other for ever.)
    """
    oldest = min(records.values())
    seen: dict[str, int] = {}
    for dag_id, number in _writers(connection, head, step, oldest):
        writes = _writes(connection, head, dag_id, number, after=oldest)
        newer = [(url, kind) for url, merge, kind in writes if merge > records.get(url, merge)]
        if any_dag or dag_id == step.dag_id:
            yield from (url for url, _ in newer)
            continue
        yield from (url for url, kind in newer if kind == "made")
        others = {url for url, kind in newer if kind != "made"}
        if others:
            seen = seen or _first_records(connection, head, step)
            writes += _writes(connection, head, dag_id, number, up_to=oldest)
            yield from {url for url, merge, _ in writes if merge < seen.get(url, 0)} & others


def _writers(connection: sa.Connection, head: Head, step: StepRun, oldest: int) -> list[tuple[str, int]]:
    """The steps, by DAG and number, that may come before this one and have merged since."""
    query = sa.select(step_run.c.dag_id, step_run.c.step).distinct()
    before = sa.or_(step_run.c.dag_id != step.dag_id, step_run.c.step < step.step)
    query = query.where(step_run.c.dataset_id == head.id, step_run.c.merge > oldest, before)
    return [(dag_id, number) for dag_id, number in connection.execute(query)]


def _writes(
    connection: sa.Connection,
    head: Head,
    dag_id: str,
    number: int,
    *,
    after: int = 0,
    up_to: int | None = None,
) -> list[tuple[str, int, str]]:
    """What a step of a DAG wrote in all its runs, by the merges after one, or up to one."""
    same = (step_run.c.dag_id == dag_id, step_run.c.step == number)
    of_these = among(
        connection,
        image_write.c.step_run_id,
        step_run_ids(connection, head, *same, step_run.c.merge > after),
    )
    numbers = image_write.c.merge > after if up_to is None else image_write.c.merge <= up_to
    query = sa.select(image_write.c.zarr_url, image_write.c.merge, image_write.c.kind)
    return list(fetch_plain(connection, query.where(of_these, numbers)))


def _first_records(connection: sa.Connection, head: Head, step: StepRun) -> dict[str, int]:
    """The merges that recorded the images first for a step, as far as their records are there still."""
    columns = (image_status.c.zarr_url, image_status.c.merge)
    recorded = _recorded(connection, _other_runs(connection, head, step))
    first: dict[str, int] = {}
    for url, merge in fetch_plain(connection, sa.select(*columns).where(recorded)):
        if merge <= first.get(url, merge):
            first[url] = merge
    return first
