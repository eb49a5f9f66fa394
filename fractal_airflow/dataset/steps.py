"""Step runs: what a step of a DAG run was asked, and which merges and versions are its own."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among
from fractal_airflow.dataset.records import StepCall, StepRun
from fractal_airflow.dataset.rows import storable
from fractal_airflow.dataset.schema import dataset, dataset_version, image, step_run
from fractal_airflow.dataset.versions import Head


def same_step_run(head: Head, step: StepRun) -> sa.ColumnElement[bool]:
    """The condition that a row of the table is this step run's. The task may have become another."""
    return sa.and_(
        step_run.c.dataset_id == head.id,
        step_run.c.dag_id == step.dag_id,
        step_run.c.run_id == step.run_id,
        step_run.c.step == step.step,
    )


def step_run_id(connection: sa.Connection, head: Head, step: StepRun) -> int:
    """The id of this step run, which is added if it is new. Call it under the dataset's lock."""
    query = sa.select(step_run.c.id, step_run.c.task).where(same_step_run(head, step))
    found = connection.execute(query).first()
    if found is None:
        values = {"dag_id": step.dag_id, "run_id": step.run_id, "step": step.step, "task": step.task}
        insert = sa.insert(step_run).values(dataset_id=head.id, **values)
        return int(connection.execute(insert.returning(step_run.c.id)).scalar_one())
    if found.task != step.task:  # the workflow was edited, and the run cleared
        connection.execute(sa.update(step_run).where(step_run.c.id == found.id).values(task=step.task))
    return int(found.id)


def step_run_ids(connection: sa.Connection, head: Head, *where: sa.ColumnElement[bool]) -> list[int]:
    """The ids of the dataset's step runs that meet the conditions.

    Asked apart from the rows of images: a database that knows little of its tables joins them badly.
    """
    return list(connection.scalars(sa.select(step_run.c.id).where(step_run.c.dataset_id == head.id, *where)))


def record_call(connection: sa.Connection, own_id: int, call: StepCall) -> None:
    """Tell what a step run is asked to do from now on."""
    connection.execute(
        sa.update(step_run)
        .where(step_run.c.id == own_id)
        .values(
            package=storable(call.package),
            version=storable(call.version),
            name=storable(call.name),
            arguments=json.dumps(call.arguments),
            fingerprint=storable(call.fingerprint),
            resource=storable(call.resource),
            started_at=datetime.now(UTC),
            ended_at=None,
        )
    )


def record_end(connection: sa.Connection, own_id: int) -> None:
    """Tell that a step run which had begun has nothing to do any more."""
    begun = sa.and_(step_run.c.id == own_id, step_run.c.ended_at.is_(None))
    connection.execute(sa.update(step_run).where(begun).values(ended_at=datetime.now(UTC)))


def announced_since(connection: sa.Connection, head: Head, own_id: int) -> int:
    """The merge up to which the dataset's changes were announced before any merge of this step run.

    An event is lost where a task dies after its merge. Its step run's next merge tells of that again.
    """
    before = connection.scalar(sa.select(step_run.c.announced_before).where(step_run.c.id == own_id))
    return head.announced if before is None else min(before, head.announced)


def set_announced(connection: sa.Connection, head: Head, merge: int) -> None:
    """Note up to which merge the dataset's changes are announced."""
    connection.execute(sa.update(dataset).where(dataset.c.id == head.id).values(announced=merge))


def announce_merge(connection: sa.Connection, head: Head, own_id: int, number: int, *, announce: bool) -> int:
    """Note whether a step run's merge is announced; return the merge up to which changes were before.

    Where it is not, what its earlier merge had to tell is left to the next that is.
    """
    since = announced_since(connection, head, own_id)
    set_announced(connection, head, number if announce else since)
    own = sa.update(step_run).where(step_run.c.id == own_id)
    connection.execute(own.values(announced_before=since if announce else None))
    return since


def count_merge(connection: sa.Connection, head: Head, own_ids: Collection[int]) -> int:
    """Count one more merge into the dataset, the newest of these step runs, and return its number.

    Call it under the dataset's lock, once a transaction.
    """
    number = head.merges + 1
    connection.execute(sa.update(dataset).where(dataset.c.id == head.id).values(merges=number))
    own = among(connection, step_run.c.id, own_ids)
    first = sa.case((step_run.c.first_merge > 0, step_run.c.first_merge), else_=number)
    values = {"merge": number, "first_merge": first, "ended_at": datetime.now(UTC)}
    connection.execute(sa.update(step_run).where(own).values(values))
    return number


def step_runs_after(head: Head, version: int) -> sa.Select[tuple[int]]:
    """The step runs that made later versions than this one."""
    own = dataset_version.c.step_run_id
    query = sa.select(own).where(dataset_version.c.dataset_id == head.id, dataset_version.c.version > version)
    return query.where(own.is_not(None)).distinct()


def merge_base(connection: sa.Connection, head: Head, own_id: int) -> tuple[int, frozenset[str]]:
    """The version that a step run's merge starts from, and the images that it removed before that version.

    Where the newest versions are this very step run's own (a cleared merge, a retried unit), it starts
    before them, so that merging again gives the same list. Where others have merged since, it starts from
    the newest, and a removal that it made before is no error the second time.
    """
    own = connection.scalars(
        sa.select(dataset_version.c.version).where(
            dataset_version.c.dataset_id == head.id, dataset_version.c.step_run_id == own_id
        )
    ).all()
    base = head.version
    while base in own:
        base -= 1
    return base, _removed_in(connection, head, [version for version in own if version < base])


def _removed_in(connection: sa.Connection, head: Head, versions: Collection[int]) -> frozenset[str]:
    """Images that these versions took off the list: their row ended there, and no other began."""
    if not versions:
        return frozenset()
    mine = image.c.dataset_id == head.id
    ended = sa.select(image.c.zarr_url, image.c.version_to).where(mine, image.c.version_to.in_(versions))
    begun = sa.select(image.c.zarr_url, image.c.version_from).where(mine, image.c.version_from.in_(versions))
    gone = set(connection.execute(ended)) - set(connection.execute(begun))
    return frozenset(url for url, _ in gone)
