"""Events of datasets: a merge tells what it changed, and a run that an event started learns it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fractal_airflow.assets import DATASETS, FractalDataset
from fractal_airflow.exceptions import WorkflowError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.dataset.records import Merged

LISTED_IMAGES = 1000
"""An event names the images that changed where they are no more than that; else it only counts them."""

WITHOUT_EVENT = "start it with images='pending', which finds what is new by itself, or with images='all'"

log = logging.getLogger(__name__)


def announce(context: Context, name: str, merged: Merged, step_name: str, step_number: int) -> None:
    """
    Let the task's success tell which images of a dataset have changed since the event before.

    Airflow keeps events of tasks that succeed only: what a merge committed before it failed is in the range
    of the next one that succeeds.
    """
    ti = context["ti"]
    extra = event_extra(name, merged, step_name, step_number, dag_id=ti.dag_id, run_id=ti.run_id)
    extra["dag_ids"] = sorted({ti.dag_id}.union(*map(_dag_ids, _triggering_events(context))))
    try:
        asset = FractalDataset(name).asset
    except ValueError as error:  # Airflow's limits on names: what is merged stays merged
        log.warning("Dataset %r has changed, but Airflow cannot have an event of it: %s", name, error)
        return
    context["outlet_events"][DATASETS].add(asset, extra=extra)


def event_extra(
    name: str, merged: Merged, step_name: str, step_number: int, *, dag_id: str, run_id: str
) -> dict[str, Any]:
    """Return what an event says of a merge."""
    changed = {"added": merged.added, "updated": merged.updated, "removed": merged.removed}
    counts = {what: len(urls) for what, urls in changed.items()}
    listed = changed if sum(counts.values()) <= LISTED_IMAGES else {}
    return {
        "dataset": name,
        "version": merged.version,
        "since": merged.since,
        "merge": merged.merge,
        "step": step_number,
        "step_name": step_name,
        "dag_id": dag_id,
        "run_id": run_id,
        "counts": counts,
        **listed,
    }


def event_ranges(context: Context, name: str, mark: int) -> list[list[int]]:
    """
    Return the merges of a dataset whose images a run is to process that events started: ``[since, merge]``.

    It is all since the earliest of the events, up to now. Airflow starts a run with the events that came
    before the scheduler noticed the first of them, and may leave those that came right after to a later run,
    which may never be.

    Events that this DAG's own runs have led to count for nothing: a DAG that works on the dataset that starts
    it would else go on for ever, and so would two of them. Where other assets of the DAG's schedule started
    the run, there is nothing to tell either.

    :param mark: how many merges of the dataset there have been.
    :raises WorkflowError: where no event started the run, or one does not say what changed.
    """
    asset = FractalDataset(name).asset
    if not _triggering_events(context):
        raise WorkflowError(
            f"images: 'event' processes what an event of {asset.uri} tells, and no event started this run: "
            f"{WITHOUT_EVENT}"
        )
    dag_id = context["ti"].dag_id
    events = context["triggering_asset_events"].get(asset, ())
    since = [_since(event, asset.uri) for event in events if dag_id not in _dag_ids(event)]
    return [[min(since), mark]] if since else []


def started_by_itself(context: Context) -> bool:
    """Whether an event started this run, and all that did are such as runs of this very DAG have led to."""
    events = _triggering_events(context)
    dag_id = context["ti"].dag_id
    return bool(events) and all(dag_id in _dag_ids(event) for event in events)


def _triggering_events(context: Context) -> list[Any]:
    by_asset = context.get("triggering_asset_events") or {}
    return [event for events in by_asset.values() for event in events]


def _dag_ids(event: Any) -> set[str]:
    """Return the DAGs whose runs have led to an event, one after the other, its own included."""
    dag_ids = (event.extra or {}).get("dag_ids")
    return set(dag_ids) if isinstance(dag_ids, list) else set()


def _since(event: Any, uri: str) -> int:
    since = (event.extra or {}).get("since")
    if isinstance(since, int) and not isinstance(since, bool) and since >= 0:
        return since
    by = f"task {event.source_task_id} of DAG {event.source_dag_id}" if event.source_dag_id else "hand"
    raise WorkflowError(
        f"images: 'event': an event of {uri}, made by {by}, does not say what changed, as those of merges do: "
        f"{WITHOUT_EVENT}"
    )
