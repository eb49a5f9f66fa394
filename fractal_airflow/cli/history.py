"""``airflow fractal history``: what became of every image at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from fractal_airflow.cli.finding import image_of, shortened, step_name, steps_of
from fractal_airflow.cli.metadata import run_state
from fractal_airflow.cli.output import command, print_error, print_json_rows, print_rows, size_text
from fractal_airflow.dataset import NO_IMAGE
from fractal_airflow.exceptions import DatasetError, FractalAirflowError
from fractal_airflow.hooks.dataset_store import get_dataset_store

if TYPE_CHECKING:
    from fractal_airflow.dataset import DatasetStore
    from fractal_airflow.dataset.records import Status, StatusRecord

MOST_ROWS = 1000
NO_IMAGE_TEXT = "(whole step)"

_COLUMNS = (
    "step", "image", "status", "run", "try", "started", "seconds", "memory", "fingerprint", "warnings", "error",
    "log",
)  # fmt: skip
_ERROR_LENGTH = 100
_FINGERPRINT_LENGTH = 8
_MOST_RUNS = 5

Row = dict[str, Any]


@command
def history(args: Any) -> None:
    """Show what became of the images of a dataset."""
    store = get_dataset_store()
    zarr_dir = store.get(args.name).zarr_dir
    settle(store, args.name)
    rows = history_rows(
        store,
        args.name,
        zarr_url=image_of(store, args.name, args.image) if args.image else None,
        step=args.step,
        dag_id=args.dag,
        run_id=args.run,
        status=args.status,
        latest=not args.all,
    )
    if args.output == "json":
        print_json_rows(rows)
    else:
        print_table(list(rows), zarr_dir)


def settle(store: DatasetStore, name: str) -> None:
    """Let no image stay submitted to a run that has ended; where nobody can tell, all stays as it is."""
    try:
        store.settle(name, run_state)
    except FractalAirflowError as error:
        print_error(f"Images may be shown as submitted to runs that have ended. {error}")


def history_rows(
    store: DatasetStore,
    name: str,
    *,
    zarr_url: str | None = None,
    step: str | None = None,
    dag_id: str | None = None,
    run_id: str | None = None,
    status: Status | None = None,
    latest: bool = True,
) -> Iterator[Row]:
    """
    Return the history's rows, by step and image, each with all that is known.

    :param step: its number or name.
    :param status: with ``unset``: the images that have no record at a step.
    :param latest: only the newest record for each step and image.
    :raises DatasetError: where there is no such step, run or DAG.
    """
    runs = store.step_runs(name, dag_id=dag_id, run_id=run_id)
    if not runs and (dag_id is not None or run_id is not None):
        raise unknown_run(store, name, dag_id, run_id)
    names = {(each.step, each.task): step_name(each.name, each.task) for each in runs}
    steps = steps_of(runs, step) if step is not None else set(names)
    only = next(iter(steps))[0] if len({number for number, _ in steps}) == 1 else None
    wanted = None if status == "unset" else status
    records = store.statuses(
        name,
        zarr_url=zarr_url,
        step=only,
        dag_id=dag_id,
        run_id=run_id,
        status=wanted,
        latest=latest,
    )
    records = [record for record in records if (record.step, record.task) in steps]
    if status == "unset":
        urls = [zarr_url] if zarr_url else [image.zarr_url for image in store.images(name)]
        return _unset_rows(steps, names, urls, records)
    # Records of one image stay in the order of time.
    records.sort(key=lambda record: (record.step, record.zarr_url))
    return (_row(record, names[record.step, record.task]) for record in records)


def unknown_run(store: DatasetStore, name: str, dag_id: str | None, run_id: str | None) -> DatasetError:
    """Return the error for a run, or a DAG, that the history does not know, with those that it does."""
    runs = reversed(store.step_runs(name))
    names = (each.run_id if dag_id is None else f"{each.run_id} of {each.dag_id}" for each in runs)
    newest = list(dict.fromkeys(names))[:_MOST_RUNS]
    known = f"its newest runs are {', '.join(newest)}" if newest else "there was none yet"
    asked = "a run" if run_id is None else f"a run {run_id!r}"
    of_dag = "" if dag_id is None else f" of DAG {dag_id!r}"
    return DatasetError(f"No step of {asked}{of_dag} has begun on dataset {name!r}: {known}")


def _row(record: StatusRecord, name: str) -> Row:
    return {
        "step": record.step,
        "name": name,
        "task": record.task,
        "zarr_url": record.zarr_url,
        "status": record.status,
        "dag_id": record.dag_id,
        "run_id": record.run_id,
        "map_index": record.map_index,
        "try": record.try_number,
        "started": _iso(record.started_at),
        "recorded": _iso(record.recorded_at),
        "seconds": record.seconds,
        "max_rss_mb": record.max_rss_mb,
        "fingerprint": record.fingerprint,
        "warnings": list(record.warnings),
        "error": record.error,
        "log": record.log,
    }


def _unset_rows(
    steps: Iterable[tuple[int, str]],
    names: dict[tuple[int, str], str],
    urls: Sequence[str],
    records: Sequence[StatusRecord],
) -> Iterator[Row]:
    """Yield the images without a record at a step that gets images: a converter has none to miss."""
    known: dict[tuple[int, str], dict[str, str]] = {}
    for record in records:
        known.setdefault((record.step, record.task), {})[record.zarr_url] = record.status
    for step, task in sorted(steps):
        at_step = known.get((step, task), {})
        if set(at_step) == {NO_IMAGE}:
            continue
        for url in urls:
            if at_step.get(url, "unset") == "unset":
                yield {
                    "step": step,
                    "name": names[step, task],
                    "task": task,
                    "zarr_url": url,
                    "status": "unset",
                }


def print_table(rows: Sequence[Row], zarr_dir: str) -> None:
    """Print rows for people; of very many the first ones."""
    dags = {row.get("dag_id") for row in rows}
    columns = (*_COLUMNS[:3], "dag", *_COLUMNS[3:]) if len(dags - {None}) > 1 else _COLUMNS
    print_rows([cells(row, zarr_dir) for row in islice(rows, MOST_ROWS)], columns)
    if len(rows) > MOST_ROWS:
        print(
            f"The first {MOST_ROWS} of {len(rows)} rows: choose with --image, --step, --run, --dag or --status, "
            "or have all of them with -o json"
        )


def cells(row: Row, zarr_dir: str) -> Row:
    """Return a row as the table shows it."""
    started, memory, warnings = row.get("started"), row.get("max_rss_mb"), row.get("warnings")
    error = (row.get("error") or "").partition("\n")[0]
    return {
        "step": f"{row['step']} {row['name']}",
        "image": shortened(row["zarr_url"], zarr_dir) or NO_IMAGE_TEXT,
        "status": row["status"],
        "dag": row.get("dag_id"),
        "run": row.get("run_id"),
        "try": row.get("try"),
        "started": started and started[:19].replace("T", " "),
        "seconds": None if row.get("seconds") is None else f"{row['seconds']:.1f}",
        "memory": None if memory is None else size_text(memory * 2**20),
        "fingerprint": (row.get("fingerprint") or "")[:_FINGERPRINT_LENGTH],
        "warnings": len(warnings) if warnings else None,
        "error": error if len(error) <= _ERROR_LENGTH else error[: _ERROR_LENGTH - 2] + " …",
        "log": row.get("log"),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
