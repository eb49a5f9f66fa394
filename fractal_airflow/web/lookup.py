"""What the pages show: found by DAG, run, step and map index in the dataset store and at the resource."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from fractal_airflow.assets import FractalDataset
from fractal_airflow.dataset.records import StatusRecord, StepRecord
from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.resource import Resource
from fractal_airflow.execution.run_files import UnitFiles
from fractal_airflow.execution.run_folder import run_folder
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import LOCAL, FractalHook

MOST_BYTES = 2 * 1000 * 1000  # of a log


class NothingFoundError(FractalAirflowError, LookupError):
    """There is no such step, instance or log."""


@dataclass(frozen=True)
class Step:
    """A step of a run, as the history has it.

    :param dataset: the name of the dataset that it works on.
    """

    dataset: str
    zarr_dir: str
    record: StepRecord

    @property
    def name(self) -> str:
        """What the step is called."""
        return self.record.name or self.record.task.rpartition("/")[2]

    @property
    def resource_name(self) -> str:
        """Where its units run."""
        return self.record.resource or LOCAL


@dataclass(frozen=True)
class ShownUnits:
    """The units of one task instance.

    :param step: what they belong to.
    :param instance: the map index; None for the command over all images.
    :param units: as their folder has them; where that is gone, as the history has those that are images.
    :param folder: where their logs are; None where that was not found.
    """

    step: Step
    instance: int | None
    units: Sequence[UnitFiles] = field(default_factory=list)
    folder: str | None = None


def find_step(dag_id: str, run_id: str, step: int) -> Step:
    """
    Return a step of a run.

    :raises NothingFoundError: where the history does not know it.
    """
    store = get_dataset_store()
    for name in store.datasets_of(dag_id, run_id):
        for record in store.step_runs(name, dag_id=dag_id, run_id=run_id):
            if record.step == step:
                return Step(name, store.get(name).zarr_dir, record)
    raise NothingFoundError(
        f"The dataset store knows nothing of step {step} of run {run_id} of DAG {dag_id}: the step has not "
        "begun, had nothing to do, or its dataset was deleted. (Does the API server use the workers' dataset store?)"
    )


def units_of_instance(step: Step, map_index: int) -> ShownUnits:
    """Return the units of a mapped task instance, those that have not ended included."""
    found = _units(step, map_index)
    if found is not None:
        return found
    records = [record for record in _records(step) if record.map_index == map_index]
    return ShownUnits(step, map_index, [_as_unit(record) for record in records])


def units_of_command(step: Step) -> ShownUnits:
    """Return, as one unit, the command over all images."""
    found = _units(step, None)
    if found is not None:
        return found
    records = [record for record in _records(step) if record.map_index is None and record.log]
    return ShownUnits(step, None, [_as_unit(record) for record in records[:1]])


def log_of(step: Step, map_index: int | None, unit: int) -> str:
    """
    Return the log of a unit.

    :param map_index: None for the command over all images.
    :param unit: its place in the task instance.
    :raises NothingFoundError: where there is no such unit, or no log of it.
    """
    resource = _resource(step)
    try:
        found = resource.read_log(
            _folder(step, resource), map_index or 0, unit, MOST_BYTES, whole_list=map_index is None
        )
        if found is None:
            raise FileNotFoundError(f"There is no folder of this task instance of {step.name}")
        return found
    except FileNotFoundError as error:
        raise NothingFoundError(
            f"{error}: the unit has not begun, or `airflow fractal clean` has removed the folder of this run. "
            "A log of the resource 'local' is on the worker that ran the unit, where the API server may not see it"
        ) from error
    finally:
        resource.close()


def asset_id_of(dataset: str) -> int | None:
    """Return the number of a dataset's asset; None where Airflow has none yet."""
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        number: int | None = session.scalar(
            select(AssetModel.id).where(AssetModel.uri == FractalDataset(dataset).uri)
        )
        return number


def _units(step: Step, map_index: int | None) -> ShownUnits | None:
    """Return what the run folder has, with the images by which the history knows the units."""
    resource = _resource(step)
    try:
        batch = resource.read_batch(_folder(step, resource), map_index or 0, whole_list=map_index is None)
    finally:
        resource.close()
    return None if batch is None else ShownUnits(step, map_index, batch.units, batch.folder)


def _folder(step: Step, resource: Resource) -> str:
    record = step.record
    return str(run_folder(resource.work_dir, record.dag_id, record.run_id, record.step, step.name))


def _resource(step: Step) -> Resource:
    return FractalHook(step.resource_name).get_conn()


def _records(step: Step) -> list[StatusRecord]:
    record = step.record
    return get_dataset_store().statuses(
        step.dataset, dag_id=record.dag_id, run_id=record.run_id, step=record.step, latest=False
    )


def _as_unit(record: StatusRecord) -> UnitFiles:
    error = record.error.partition("\n")[0] if record.error else None
    log = str(PurePosixPath(record.log)) if record.log else ""
    return UnitFiles(record.zarr_url or None, record.status, log, record.seconds, error)
