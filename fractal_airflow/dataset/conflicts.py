"""Two runs that work on the same images: the one that merges later is refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import fetch, fetch_plain
from fractal_airflow.dataset.records import ImageStatus, StepRun
from fractal_airflow.dataset.schema import dataset_version, image_status, image_write, step_run
from fractal_airflow.dataset.steps import same_step_run
from fractal_airflow.dataset.versions import Head, changed_urls
from fractal_airflow.exceptions import DatasetConflictError

_NAMED = 5


def refuse_conflict(
    connection: sa.Connection,
    head: Head,
    step: StepRun,
    touched: Set[str],
    *,
    selected_at: int | None,
    version: int | None,
) -> None:
    """Refuse to merge a step whose images others have changed since it selected them.

    :param touched: the images that it worked on, and those that it wrote or removes.
    :param selected_at: the dataset's mark when it selected: another run has written none of the images since.
    :param version: the dataset's version when it selected: no restore or import has changed any since.
    :raises DatasetConflictError: naming the images, and who changed them.
    """
    changed: dict[str, set[str]] = defaultdict(set)
    if selected_at is not None:
        for dag_id, run_id, urls in _written_since(connection, head, step, selected_at):
            changed[f"run {run_id!r} of DAG {dag_id!r}"] |= urls & touched
    if version is not None:
        for number, what in list(fetch(connection, _replaced_since(head, version))):
            changed[f"version {number}, which was {what}"] = changed_urls(connection, head, number) & touched
    changed = {who: urls for who, urls in changed.items() if urls}
    if changed:
        raise DatasetConflictError(conflict_message(head.name, step, changed))


def _written_since(
    connection: sa.Connection, head: Head, step: StepRun, selected_at: int
) -> Iterator[tuple[str, str, set[str]]]:
    """What other runs have written since, by step run."""
    own_run = sa.and_(step_run.c.dag_id == step.dag_id, step_run.c.run_id == step.run_id)
    others = sa.select(step_run.c.id, step_run.c.dag_id, step_run.c.run_id).where(
        step_run.c.dataset_id == head.id, step_run.c.merge > selected_at, sa.not_(own_run)
    )
    for own_id, dag_id, run_id in connection.execute(others).all():
        written = sa.select(image_write.c.zarr_url).where(
            image_write.c.step_run_id == own_id, image_write.c.merge > selected_at
        )
        yield dag_id, run_id, {url for (url,) in fetch_plain(connection, written)}


def _replaced_since(head: Head, version: int) -> sa.Select[tuple[int, str]]:
    return (
        sa.select(dataset_version.c.version, dataset_version.c.what)
        .where(dataset_version.c.dataset_id == head.id, dataset_version.c.version > version)
        .where(dataset_version.c.what.in_(("restored", "imported")))
        .order_by(dataset_version.c.version)
    )


def merged_before(
    connection: sa.Connection, head: Head, step: StepRun, statuses: Sequence[ImageStatus], selected_at: int
) -> tuple[int, int] | None:
    """The id of a step run and the number of its merge, if that has merged what it selected: with these statuses.

    Its task died before it could tell, and tries again.
    """
    query = sa.select(step_run.c.id, step_run.c.merge).where(same_step_run(head, step))
    found = connection.execute(query.where(step_run.c.merge > selected_at)).first()
    if found is None:
        return None
    columns = sa.select(image_status.c.zarr_url, image_status.c.status)
    recorded = set(map(tuple, fetch_plain(connection, columns.where(image_status.c.step_run_id == found.id))))
    same = all((status.zarr_url, status.status) in recorded for status in statuses)
    return (found.id, found.merge) if same else None


def conflict_message(name: str, step: StepRun, changed: dict[str, set[str]]) -> str:
    """What to tell of a step that is not merged.

    :param changed: the images, by who changed them.
    """
    urls = sorted(set().union(*changed.values()))
    return (
        f"Step {step.step} ({step.task}) of run {step.run_id!r} is not merged into dataset {name!r}: "
        f"since it selected its images, others have changed {len(urls)} of them: "
        f"{_listed([repr(url) for url in urls])}. They were changed by {_listed(sorted(changed))}. "
        "The dataset stays as it is. Clear the step's select task, so that it selects anew."
    )


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
