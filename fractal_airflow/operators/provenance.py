"""Leaves the provenance of a run below its dataset's ``zarr_dir``: ``.fractal_airflow/RUN_ID/``."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fractal_airflow.operators.report_places import own_folder, place_of
from fractal_airflow.provenance.facts import RunFacts, StepFacts

if TYPE_CHECKING:
    from fractal_airflow.dataset import DatasetStore

FOLDER = ".fractal_airflow"


def write_provenance(run: RunFacts, store: DatasetStore, report: str) -> str:
    """
    Write the workflow as it ran, and an RO-Crate of the run; return the folder.

    :raises Exception: whatever file systems and their clients raise.
    """
    from fractal_airflow.execution.run_folder import safe_name
    from fractal_airflow.provenance.crate import run_identifier

    place = place_of(run.zarr_dir, run.steps_that_ran[-1].resource)
    names = (run.run_id, f"{run.run_id}.{run.dag_id}.{run.task_id}")
    folders = [posixpath.join(run.zarr_dir, FOLDER, safe_name(name)) for name in names]
    folder = own_folder(place, folders, run_identifier(run.dag_id, run.run_id, run.task_id))
    place.write(folder, _files(run, store, report))
    return folder


def _files(run: RunFacts, store: DatasetStore, report: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files; the crate's metadata come last, since they make it a crate."""
    from fractal_airflow.dataset import StepRun
    from fractal_airflow.provenance import crate
    from fractal_airflow.provenance.images_file import output_csv
    from fractal_airflow.provenance.workflow_file import workflow_as_run

    workflow = json.dumps(workflow_as_run(run), indent=2, ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )
    yield crate.WORKFLOW_FILE, workflow + b"\n"
    yield crate.REPORT_FILE, report.encode("utf-8", "backslashreplace")
    for step in run.steps_that_ran:
        if not step.is_converter:
            yield crate.input_file(step), _inputs(run, store, step)
        step_run = StepRun(run.dag_id, run.run_id, step.number, step.task_key)
        yield crate.output_file(step), output_csv(store.writes(run.dataset, step_run))
    digest = hashlib.sha256(workflow).hexdigest()[:16]
    yield crate.METADATA_FILE, crate.crate_metadata(run, workflow_version=digest)


def _inputs(run: RunFacts, store: DatasetStore, step: StepFacts) -> bytes:
    from fractal_airflow.provenance.images_file import InputImage, input_csv

    statuses = store.statuses(
        run.dataset, dag_id=run.dag_id, run_id=run.run_id, step=step.number, latest=False
    )
    return input_csv(InputImage(each.zarr_url, each.status, each.seconds) for each in statuses)
