"""Which images a step has computed that were written since by a step that comes before it.

In the same DAG, the steps with lower numbers come before. A step of another DAG comes before for the images
that it made, and for those that it wrote before this step had recorded them for the first time. (Else two
DAGs that edit the same images in place would wake each other for ever.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

import sqlalchemy as sa

from fractal_airflow.dataset.bulk import among, among_texts, fetch_plain
from fractal_airflow.dataset.records import StepRun
from fractal_airflow.dataset.schema import image_status, image_write, step_run
from fractal_airflow.dataset.versions import Head
from fractal_airflow.dataset.writes import SMALL, looked_up


class _Writer(NamedTuple):
    """A step run, and how many images it has written."""

    id: int
    dag_id: str
    step: int
    merge: int
    written: int


def rewritten(
    connection: sa.Connection,
    head: Head,
    step: StepRun,
    records: Mapping[str, int],
    same_step: sa.ColumnElement[bool],
    *,
    any_dag: bool,
) -> set[str]:
    """The images that a step before this one has written after their records.

    :param records: the images, with the merges that recorded them for this step.
    :param same_step: the condition that a step run is one of this step's.
    :param any_dag: all steps of other DAGs come before.
    """
    writers = _writers(connection, head, step, records)
    certain = [writer for writer in writers if any_dag or writer.dag_id == step.dag_id]
    found: set[str] = set()
    for _, url in _newer_writes(connection, certain, records):
        found.add(url)
        if len(found) == len(records):
            return found
    others = [] if any_dag else [writer for writer in writers if writer.dag_id != step.dag_id]
    found.update(_made(connection, [writer.id for writer in others], records))
    early = _early(connection, head, max(records.values())) if others else set()
    left = {url: merge for url, merge in records.items() if url not in found}
    edited: dict[tuple[str, int], set[str]] = defaultdict(set)
    for writer, url in _newer_writes(connection, [one for one in others if one[1:3] in early], left):
        edited[writer.dag_id, writer.step].add(url)
    if edited:
        first = _first_records(connection, head, same_step, set().union(*edited.values()))
        for (dag_id, number), urls in edited.items():
            found |= _written_before(connection, head, dag_id, number, urls - found, first)
    return found


def _writers(
    connection: sa.Connection, head: Head, step: StepRun, records: Mapping[str, int]
) -> list[_Writer]:
    """The runs of steps that may come before this one, which have merged after the oldest of the records."""
    before = sa.or_(step_run.c.dag_id != step.dag_id, step_run.c.step < step.step)
    since = (step_run.c.merge > min(records.values()), step_run.c.written > 0)
    query = sa.select(*(step_run.c[name] for name in _Writer._fields)).order_by(step_run.c.merge.desc())
    query = query.where(step_run.c.dataset_id == head.id, before, *since)
    return [_Writer(*row) for row in connection.execute(query)]


def _newer_writes(
    connection: sa.Connection, writers: Sequence[_Writer], records: Mapping[str, int]
) -> Iterator[tuple[_Writer, str]]:
    """What these step runs have made, edited or removed by later merges than the images' records.

    Mostly there are few images, if any, that a large run has written after their records. They are looked up
    in it, so that a dataset which was processed anew every night is asked about as quickly as another.
    """
    oldest_first = sorted(records, key=records.__getitem__)
    merges = [records[url] for url in oldest_first]
    written = image_write.c
    small = [writer for writer in writers if writer.written <= SMALL]
    queries = [(small, among(connection, written.step_run_id, [writer.id for writer in small]))]
    for writer in writers:
        older = bisect_left(merges, writer.merge)  # so many records are older than its newest merge
        if writer.written <= SMALL or not older:
            continue
        where = written.step_run_id == writer.id
        if looked_up(writer.written, older):
            where = sa.and_(where, among_texts(connection, written.zarr_url, oldest_first[:older]))
        queries.append(([writer], where))
    for ones, where in queries:
        by_id = {writer.id: writer for writer in ones}
        query = sa.select(written.step_run_id, written.zarr_url, written.merge).where(where)
        for own_id, url, merge in fetch_plain(connection, query) if ones else ():
            if merge > records.get(url, merge):
                yield by_id[own_id], url


def _made(connection: sa.Connection, own_ids: Collection[int], records: Mapping[str, int]) -> Iterator[str]:
    """What these step runs have made by later merges than the images' records."""
    columns = (image_write.c.zarr_url, image_write.c.merge)
    of_these = among(connection, image_write.c.step_run_id, own_ids)
    query = sa.select(*columns).where(of_these, image_write.c.kind == "made")
    for url, merge in fetch_plain(connection, query.where(image_write.c.merge > min(records.values()))):
        if merge > records.get(url, merge):
            yield url


def _early(connection: sa.Connection, head: Head, before: int) -> set[tuple[str, int]]:
    """The steps, by DAG and number, that had merged anything before this merge."""
    query = sa.select(step_run.c.dag_id, step_run.c.step).distinct()
    query = query.where(step_run.c.dataset_id == head.id, step_run.c.first_merge > 0)
    rows = connection.execute(query.where(step_run.c.first_merge < before))
    return {(dag_id, number) for dag_id, number in rows}


def _first_records(
    connection: sa.Connection, head: Head, same_step: sa.ColumnElement[bool], wanted: Set[str]
) -> dict[str, int]:
    """The merges that recorded these images first for a step, as far as their records are there still.

    Records from before merges had numbers tell nothing of what came before what.
    """
    first: dict[str, int] = {}
    columns = (image_status.c.zarr_url, image_status.c.first_merge)
    for own_id, its_first in _by_first_merge(connection, head, same_step):
        if len(first) == len(wanted) and max(first.values()) < its_first:
            break  # later runs have later merges only
        mine = (image_status.c.step_run_id == own_id, image_status.c.first_merge > 0)
        for url, merge in fetch_plain(connection, sa.select(*columns).where(*mine)):
            if url in wanted and merge <= first.get(url, merge):
                first[url] = merge
    return first


def _written_before(
    connection: sa.Connection, head: Head, dag_id: str, number: int, urls: Set[str], first: Mapping[str, int]
) -> set[str]:
    """Those of the images that a step of a DAG had written before these first merges."""
    last = max((first.get(url, 0) for url in urls), default=0)
    left = set(urls)
    same = sa.and_(step_run.c.dag_id == dag_id, step_run.c.step == number, step_run.c.written > 0)
    columns = (image_write.c.zarr_url, image_write.c.first_merge)
    for own_id, its_first in _by_first_merge(connection, head, same):
        if not left or its_first >= last:
            break
        mine = (image_write.c.step_run_id == own_id, image_write.c.first_merge < last)
        written = fetch_plain(connection, sa.select(*columns).where(*mine))
        left -= {url for url, merge in written if merge < first.get(url, 0)}
    return {url for url in urls if url not in left}


def _by_first_merge(
    connection: sa.Connection, head: Head, where: sa.ColumnElement[bool]
) -> list[tuple[int, int]]:
    """The step runs that have merged, each with its first merge, oldest first."""
    query = sa.select(step_run.c.id, step_run.c.first_merge).order_by(step_run.c.first_merge)
    query = query.where(step_run.c.dataset_id == head.id, step_run.c.first_merge > 0, where)
    return [(own_id, first) for own_id, first in connection.execute(query)]
