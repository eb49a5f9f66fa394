"""Step runs: which versions a step of a DAG run has made, so that merging it again changes nothing twice."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from fractal_airflow.dataset.records import StepRun
from fractal_airflow.dataset.schema import dataset_version, image, step_run
from fractal_airflow.dataset.versions import Head


def step_run_id(connection: sa.Connection, head: Head, step: StepRun) -> int:
    """The id of this step run, which is added if it is new. Call it under the dataset's lock."""
    found = connection.execute(
        sa.select(step_run.c.id, step_run.c.task).where(
            step_run.c.dataset_id == head.id,
            step_run.c.dag_id == step.dag_id,
            step_run.c.run_id == step.run_id,
            step_run.c.step == step.step,
        )
    ).first()
    if found is None:
        values = {"dag_id": step.dag_id, "run_id": step.run_id, "step": step.step, "task": step.task}
        insert = sa.insert(step_run).values(dataset_id=head.id, **values)
        return int(connection.execute(insert.returning(step_run.c.id)).scalar_one())
    if found.task != step.task:  # the workflow was edited, and the run cleared
        connection.execute(sa.update(step_run).where(step_run.c.id == found.id).values(task=step.task))
    return int(found.id)


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
