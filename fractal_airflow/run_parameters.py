"""What a run of a workflow may choose: dataset, filters, the part to run; its form, and its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import Param, XComArg

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import (
    ResolvedTask,
    parse_attribute_filters,
    parse_type_filters,
    workflow_slice,
)
from fractal_airflow.fractal.choice import (
    ImageChoice,
    OnFailure,
    parse_image_choice,
    parse_on_failure,
    parse_together,
)
from fractal_airflow.fractal.json_files import list_problems
from fractal_airflow.fractal.urls import normalise_url
from fractal_airflow.operators.slurm_choices import ACCOUNT_PATTERN, parse_account, parse_worker_init
from fractal_airflow.operators.templates import from_json, is_template

_IMAGE_CHOICES: dict[ImageChoice, str] = {
    "all": "all",
    "pending": "pending: not yet done, or changed since",
    "failed": "failed: those that failed, and what comes of them",
    "event": "event: those of the dataset event that starts the run",
}
_FAILURE_CHOICES: dict[OnFailure, str] = {
    "stop": "stop: later steps do not run",
    "continue": "continue: later steps run without the failed images",
}


def run_parameters(
    steps: Sequence[ResolvedTask],
    *,
    dataset: str | None,
    zarr_dir: str | None,
    attribute_filters: Mapping[str, Any] | str | None,
    type_filters: Mapping[str, Any] | str | None,
    images: str = "all",
    on_failure: str = "stop",
    on_cluster: bool = False,
    slurm_account: str | None = None,
    worker_init: str | None = None,
) -> dict[str, Param]:
    """
    Return the run parameters of a workflow's DAG, with the JSON schemas that its trigger form checks.

    :param on_cluster: whether units may run on a cluster: then a run may choose what its jobs need there.
    """
    names = {step.index: f"{step.index}: {step.name}" for step in steps}
    which: dict[str, Any] = {
        "type": "integer",
        "enum": list(names),
        "values_display": names,
        "section": "Part of the workflow",
    }
    known: dict[str, Any] = {"default": dataset} if dataset else {}
    scalar = {"type": ["string", "number", "boolean"]}
    return {
        "dataset": Param(
            **known,
            type="string",
            minLength=1,
            title="Dataset",
            description="Name of the dataset whose images are processed.",
        ),
        "zarr_dir": Param(
            zarr_dir,
            type=["null", "string"],
            title="Zarr folder",
            description="Absolute path (or s3://…) below which tasks make OME-Zarrs; a known dataset has one.",
        ),
        "images": Param(
            images,
            type="string",
            enum=[choice for choice in _IMAGE_CHOICES if choice in ("all", "pending", "failed", images)],
            values_display=_IMAGE_CHOICES,
            title="Images",
            description="Which of the images that pass the filters are processed.",
        ),
        "on_failure": Param(
            on_failure,
            type="string",
            enum=list(_FAILURE_CHOICES),
            values_display=_FAILURE_CHOICES,
            title="Where images fail",
            description="What follows a step in which images failed.",
        ),
        "attribute_filters": _filters_param(
            attribute_filters,
            {"type": "array", "minItems": 1, "items": scalar},
            title="Attribute filters",
            description='Only images whose attributes are in these lists, such as {"well": ["B03", "B04"]}.',
        ),
        "type_filters": _filters_param(
            type_filters,
            {"type": "boolean"},
            title="Type filters",
            description='The types that the first step\'s images have, such as {"is_3D": true}.',
        ),
        "first_task_index": Param(0, title="First step", description="Earlier steps are skipped.", **which),
        "last_task_index": Param(
            len(steps) - 1, title="Last step", description="Later steps are skipped.", **which
        ),
        **(_cluster_params(slurm_account, worker_init) if on_cluster else {}),
    }


def _cluster_params(slurm_account: str | None, worker_init: str | None) -> dict[str, Param]:
    checked: dict[str, Any] = {} if is_template(slurm_account) else {"pattern": rf"^({ACCOUNT_PATTERN})?$"}
    return {
        "slurm_account": Param(
            slurm_account,
            type=["null", "string"],
            **checked,
            title="SLURM account",
            description="The account that jobs are charged to; default: the resource's, or the user's own.",
            section="Cluster",
        ),
        "worker_init": Param(
            worker_init,
            type=["null", "string"],
            format="multiline",
            title="Worker init",
            description="Lines of shell at the beginning of every job, such as: module load cuda",
            section="Cluster",
        ),
    }


def _filters_param(filters: Mapping[str, Any] | str | None, values: dict[str, Any], **kwargs: Any) -> Param:
    """
    Return the run parameter of filters.

    :param values: the JSON schema of a filter's value. Templates are checked when they are filled in.
    """
    if is_template(filters):
        return Param(filters, type=["object", "string"], section="Filters", **kwargs)
    default = dict(from_json(filters) or {})
    return Param(default, type="object", additionalProperties=values, section="Filters", **kwargs)


def check_run_values(
    where: str,
    step_count: int,
    *,
    dataset: Any,
    images_per_batch: Any = None,
    zarr_dir: Any = None,
    attribute_filters: Any = None,
    type_filters: Any = None,
    images: Any = None,
    on_failure: Any = None,
    together: Any = None,
    first_task_index: Any = None,
    last_task_index: Any = None,
    slurm_account: Any = None,
    worker_init: Any = None,
) -> None:
    """
    Check what the author of a DAG chooses for its runs; templates are checked when they are filled in.

    :param where: the workflow or task, for the message.
    :raises WorkflowError: naming all that is wrong.
    """
    chosen = {
        "zarr_dir": zarr_dir,
        "attribute_filters": attribute_filters,
        "type_filters": type_filters,
        "images": images,
        "on_failure": on_failure,
    }
    checks: list[Callable[[], object]] = [
        lambda: _check_dataset(dataset, [name for name, value in chosen.items() if value is not None]),
        lambda: _check_images_per_batch(images_per_batch),
        lambda: _check_zarr_dir(_literal(zarr_dir)),
        lambda: parse_attribute_filters(from_json(_literal(attribute_filters))),
        lambda: parse_type_filters(from_json(_literal(type_filters))),
        lambda: parse_image_choice(_literal(images)),
        lambda: parse_on_failure(_literal(on_failure)),
        lambda: parse_together(together),
        lambda: workflow_slice(step_count, _literal(first_task_index), _literal(last_task_index)),
        lambda: parse_account(_literal(slurm_account)),
        lambda: parse_worker_init(_literal(worker_init)),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except WorkflowError as error:
            problems.append(str(error))
    if problems:
        raise WorkflowError(list_problems(where, problems))


def _literal(value: Any) -> Any:
    return None if is_template(value) else value


def _check_dataset(dataset: Any, chosen: list[str]) -> None:
    if isinstance(dataset, XComArg):
        if chosen:
            raise WorkflowError(
                f"{', '.join(chosen)}: given together with the output of another group, which has them already: "
                "give them to the first group"
            )
    elif not isinstance(dataset, str) or not dataset.strip():
        raise WorkflowError(f"dataset: must be a dataset's name or the output of a group, not {dataset!r}")


def _check_images_per_batch(value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise WorkflowError(f"images_per_batch: must be a whole number from 1 up, not {value!r}")


def _check_zarr_dir(value: Any) -> None:
    try:
        if value is not None:
            normalise_url(value)
    except ValueError as error:
        raise WorkflowError(f"zarr_dir: {error}") from error
