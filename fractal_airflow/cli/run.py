"""``airflow fractal run``: a workflow without a scheduler, in an Airflow made for this run.

Airflow's own ``dag.test`` wants a DAG file in a DAG folder, and writes into the metadata database. So this
command checks its input, writes a plan and a DAG file into a temporary folder, and goes on as a process
(:mod:`fractal_airflow.cli.follow`) that has this folder as its Airflow home. The user's Airflow, its settings
and its runs are left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import ParamValidationError

from fractal_airflow.argument_form import argument_params
from fractal_airflow.cli.datasets import read_json
from fractal_airflow.cli.environment import run_environment, users_airflow
from fractal_airflow.cli.output import command
from fractal_airflow.cli.plan import DAG_FILE, PLAN_FILE
from fractal_airflow.cli.result import open_result, write_result
from fractal_airflow.cli.stopping import STOP_SIGNALS
from fractal_airflow.cli.workflows import parse_packages
from fractal_airflow.dataset import DatasetStore
from fractal_airflow.exceptions import DatasetError, DatasetNotFoundError, FractalAirflowError, WorkflowError
from fractal_airflow.fractal import (
    ResolvedTask,
    TaskPackage,
    dump_workflow,
    load_workflow,
    parse_attribute_filters,
    parse_type_filters,
    resolve_workflow,
    workflow_slice,
)
from fractal_airflow.fractal.choice import parse_image_choice, parse_on_failure
from fractal_airflow.fractal.json_files import list_problems
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.operators.templates import is_template


@command
def run(args: Any) -> None:
    """Run a workflow, and end with its exit code."""
    result = open_result(args.result)
    try:
        packages = parse_packages(args.package)
        plan = {**make_plan(args, packages), "result": str(result) if result else None}
        variables = users_airflow(args.resource, packages)
        prepare_dataset(get_dataset_store(), args.dataset, args.zarr_dir, args.images)
    except FractalAirflowError as error:
        if result:
            write_result(result, args.dataset, [], str(error))
        raise
    go_on(plan, variables)


def make_plan(args: Any, packages: Sequence[TaskPackage]) -> dict[str, Any]:
    """
    Return what is to be run, all of it checked.

    :raises WorkflowError: all that is wrong with the workflow, the filters or the part to run.
    """
    workflow = load_workflow(Path(args.workflow))
    steps = resolve_workflow(workflow, packages, ignore=is_template)
    part = workflow_slice(len(steps), args.first_task_index, args.last_task_index)
    attribute_filters = json_option("--attribute-filters", args.attribute_filters)
    arguments = parse_arguments(steps, json_option("--arguments", args.arguments))
    return {
        "workflow": dump_workflow(workflow),
        "packages": [[str(package.directory), package.python] for package in packages],
        "dataset": args.dataset,
        "resource": args.resource,
        "params": {
            "dataset": args.dataset,
            "zarr_dir": args.zarr_dir,
            "attribute_filters": parse_attribute_filters(attribute_filters),
            "type_filters": parse_type_filters(json_option("--type-filters", args.type_filters)),
            "images": parse_image_choice(args.process),
            "on_failure": parse_on_failure(args.on_failure),
            "first_task_index": part.start,
            "last_task_index": part.stop - 1,
            **arguments,
        },
        "arguments_form": bool(arguments),
    }


def parse_arguments(steps: Sequence[ResolvedTask], arguments: Any) -> dict[str, Any]:
    """
    Return the arguments of a run that are others than the workflow's, by the names of the trigger form.

    :raises WorkflowError: naming every argument that there is not, or whose value breaks its schema.
    """
    if not isinstance(arguments, dict | None):
        raise WorkflowError(f"--arguments: must be a JSON object, not {arguments!r:.80}")
    form = argument_params(steps)
    problems = []
    for name, value in (arguments or {}).items():
        if name not in form:
            problems.append(f"{name}: there is no such argument; there are {', '.join(form) or 'none'}")
            continue
        try:
            form[name].resolve(value)
        except ParamValidationError as error:
            problems.append(f"{name}: {str(error).partition(chr(10))[0]}")
    if problems:
        raise WorkflowError(list_problems("--arguments", problems))
    return arguments or {}


def prepare_dataset(store: DatasetStore, name: str, zarr_dir: str, images_file: str | None) -> None:
    """
    Make the dataset, or check that it can go on.

    :raises DatasetError: where it has another ``zarr_dir``, or images are given for one that has some.
    """
    if images_file is None:
        store.get_or_create(name, zarr_dir)
        return
    data = read_json(images_file)
    images = data.get("images", data) if isinstance(data, dict) else data
    try:
        count = store.get(name).image_count
    except DatasetNotFoundError:
        count = 0
    if count:
        raise DatasetError(
            f"Dataset {name!r} has {count} images already: leave --images out to go on with them, "
            f"or delete it first with `airflow fractal dataset delete {name}`"
        )
    store.import_dataset({"name": name, "zarr_dir": zarr_dir, "images": images}, replace=True)


def go_on(plan: dict[str, Any], variables: dict[str, str]) -> None:
    """Go on as the process that runs the plan."""
    sys.stdout.flush()
    # Not even a Ctrl-C right now may leave the folder behind: it waits until the next process minds that.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    folder = Path(tempfile.mkdtemp(prefix="fractal-run-"))
    try:
        (folder / PLAN_FILE).write_text(json.dumps(plan), encoding="utf-8")
        (folder / "dags").mkdir()
        (folder / "dags" / "fractal_run.py").write_text(DAG_FILE, encoding="utf-8")
        # -P: modules that happen to lie in the current folder are none of Python's.
        program = [sys.executable, "-P", "-W", "ignore", "-m", "fractal_airflow.cli.follow", str(folder)]
        os.execve(sys.executable, program, run_environment(folder, variables))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def json_option(name: str, text: str | None) -> Any:
    """
    Return what an option has as JSON.

    :raises WorkflowError: where it is not JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise WorkflowError(f"{name}: {text!r} is not JSON: {error}") from error
