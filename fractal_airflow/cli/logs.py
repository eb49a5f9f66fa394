"""``airflow fractal logs``: the log of the unit that processed an image, wherever it lies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fractal_airflow.cli.finding import image_of, step_name, steps_of
from fractal_airflow.cli.history import settle
from fractal_airflow.cli.output import command
from fractal_airflow.dataset import NO_IMAGE
from fractal_airflow.exceptions import DatasetError, FractalAirflowError, ResourceError
from fractal_airflow.execution.run_folder import run_name
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import LOCAL, FractalHook

if TYPE_CHECKING:
    from fractal_airflow.dataset import DatasetStore
    from fractal_airflow.dataset.records import StatusRecord, StepRecord

MOST_BYTES = 50 * 1000 * 1000


@command
def logs(args: Any) -> None:
    """Print the log of the unit that processed an image last."""
    store = get_dataset_store()
    settle(store, args.name)
    record = newest_with_log(store, args.name, args.image, step=args.step, dag_id=args.dag, run_id=args.run)
    run = run_of(store, args.name, record)
    step = f"{record.step} {step_name(run.name if run else None, record.task)}"
    _say(f"Step {step}, run {record.run_id}: {record.status}")
    _say(str(record.log))
    text = read_log(record, run.resource if run else None)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def newest_with_log(
    store: DatasetStore,
    name: str,
    image: str | None,
    *,
    step: str | None = None,
    dag_id: str | None = None,
    run_id: str | None = None,
) -> StatusRecord:
    """
    Return the newest record of an image that has a log: that of the last step which it came to.

    :param image: its ``zarr_url``, or the end of it; None for a step that gets no images, as a converter.
    :param step: its number or name.
    :raises DatasetError: where there is none.
    """
    url = image_of(store, name, image) if image else NO_IMAGE
    about = f"Image {url!r}" if url != NO_IMAGE else "A step without images"
    records = store.statuses(name, zarr_url=url, dag_id=dag_id, run_id=run_id, latest=False)
    if step is not None:
        steps = steps_of(store.step_runs(name), step)
        records = [record for record in records if (record.step, record.task) in steps]
    asked = [(" at step ", step), (" in run ", run_id), (" of DAG ", dag_id)]
    where = "".join(f"{words}{text!r}" for words, text in asked if text is not None)
    if not records:
        raise DatasetError(f"{about} of dataset {name!r} was never processed{where}: there is no log")
    running = records[-1] if records[-1].status == "submitted" else None
    with_log = [record for record in records if record.log]
    if running and not with_log:
        raise DatasetError(
            f"{about} is being processed, at step {running.step} of run {running.run_id}: where its log is "
            "will be known when that step has ended. Until then see the link Unit logs of the task in Airflow"
        )
    if not with_log:
        raise DatasetError(f"{about} has no log{where}: {records[-1].error or records[-1].status}")
    if running:
        _say(f"It is being processed again, in run {running.run_id}: this is the log of an earlier time")
    return with_log[-1]


def run_of(store: DatasetStore, name: str, record: StatusRecord) -> StepRecord | None:
    """Return what the history knows of the step run of a record."""
    runs = store.step_runs(name, dag_id=record.dag_id, run_id=record.run_id)
    return next((run for run in runs if run.step == record.step), None)


def read_log(record: StatusRecord, resource_name: str | None) -> str:
    """
    Return the log of a record.

    :param resource_name: where it lies; None where nobody noted it: then on this machine, perhaps.
    :raises FractalAirflowError: where it is not there any more, or cannot be read.
    """
    name = resource_name or LOCAL
    path = str(record.log)
    try:
        resource = FractalHook(name).get_conn()
    except ResourceError as error:
        raise ResourceError(f"The log {path} lies where resource {name!r} runs units. {error}") from error
    try:
        return resource.read_text(run_name(record.dag_id, record.run_id), path, MOST_BYTES)
    except FileNotFoundError as error:
        said = f". The unit ended as {record.status}: {record.error}" if record.error else ""
        elsewhere = " Or it lies on another worker: run this command there." if resource.type == LOCAL else ""
        raise FractalAirflowError(
            f"{error}. `airflow fractal clean` removes the folders of old runs, with their logs.{elsewhere}{said}"
        ) from error
    finally:
        resource.close()


def _say(text: str) -> None:
    # Beside the log, which may go into a file.
    print(text, file=sys.stderr, flush=True)
