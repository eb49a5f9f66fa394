"""The first task of a step: which images it gets, in which batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowSkipException

from fractal_airflow.exceptions import FractalAirflowError, WorkflowError
from fractal_airflow.execution.batching import batch_label, label_prefix
from fractal_airflow.fractal import (
    ResolvedTask,
    check_step_arguments,
    parse_attribute_filters,
    parse_type_filters,
    select_images,
    step_type_filters,
    workflow_slice,
)
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import FractalHook
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.templates import from_json
from fractal_airflow.operators.xcoms import STEP_KEY, Batch, RunState, StepState, Unit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.dataset import DatasetStore
    from fractal_airflow.execution.resource import Resource


class SelectImagesOperator(FractalOperator):
    """
    Read the image list at one version, apply the filters, and return the batches of the step.

    :param step: the workflow task, resolved against its package.
    :param dataset: (templated) a dataset's name, or what the merge of the step before returned.
    :param zarr_dir: (templated) where the tasks write; creates the dataset where the step is a converter.
    :param type_filters: (templated) the run's type filters, where ``dataset`` is a name.
    :param attribute_filters: (templated) the run's attribute filters, where ``dataset`` is a name.
    :param arguments: (templated) the step's arguments: ``{"non_parallel": …, "parallel": …}``.
    :param step_count: how many steps the workflow has.
    :param first_task_index: (templated) the first step that runs; earlier ones are skipped.
    :param last_task_index: (templated) the last step that runs; later ones are skipped.
    :param resource: where the units run; decides how many batches there are.
    :param images_per_batch: how many images a mapped task instance takes; default: decided by the resource.
    """

    template_fields: Sequence[str] = (
        "dataset",
        "zarr_dir",
        "type_filters",
        "attribute_filters",
        "arguments",
        "first_task_index",
        "last_task_index",
    )

    def __init__(
        self,
        *,
        step: ResolvedTask,
        dataset: Any,
        zarr_dir: str | None = None,
        type_filters: Any = None,
        attribute_filters: Any = None,
        arguments: dict[str, dict[str, Any]] | None = None,
        step_count: int = 1,
        first_task_index: Any = None,
        last_task_index: Any = None,
        resource: str = "local",
        images_per_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.dataset = dataset
        self.zarr_dir = zarr_dir
        self.type_filters = type_filters
        self.attribute_filters = attribute_filters
        self.arguments = arguments or {}
        self.step_count = step_count
        self.first_task_index = first_task_index
        self.last_task_index = last_task_index
        self.resource = resource
        self.images_per_batch = images_per_batch

    def execute(self, context: Context) -> list[Batch]:
        """Return the batches; what merge must know goes into the XCom ``step``."""
        try:
            state, batches = self._select()
        except FractalAirflowError as error:
            context["ti"].xcom_push(key=STEP_KEY, value=StepState(error=str(error)))
            raise
        context["ti"].xcom_push(key=STEP_KEY, value=state)
        if not state["active"]:
            raise AirflowSkipException(
                f"Step {self.step.index} is outside the part of the workflow that runs"
            )
        return batches

    def _select(self) -> tuple[StepState, list[Batch]]:
        run = self._run_state()
        part = workflow_slice(self.step_count, self.first_task_index, self.last_task_index)
        if self.step.index not in part:
            return StepState(run=run, active=False), []
        check_step_arguments(self.step, self.arguments)
        store = get_dataset_store()
        run = self._open_dataset(store, run)
        urls = self._input_urls(store, run)
        self.log.info("%s: %d images of dataset %r", self.step.name, len(urls), run["dataset"])
        state = StepState(run=run, active=True, fingerprint=fingerprint(self.step, self.arguments))
        return state, self._batches(store, run, urls)

    def _run_state(self) -> RunState:
        if isinstance(self.dataset, dict):
            return cast(RunState, dict(self.dataset))
        if not isinstance(self.dataset, str) or not self.dataset.strip():
            raise WorkflowError(f"dataset is {self.dataset!r}: name the dataset whose images are processed")
        return RunState(
            dataset=self.dataset,
            zarr_dir=self.zarr_dir or "",
            type_filters=parse_type_filters(from_json(self.type_filters)),
            attribute_filters=parse_attribute_filters(from_json(self.attribute_filters)),
        )

    def _open_dataset(self, store: DatasetStore, run: RunState) -> RunState:
        """Check that the dataset is there and has this ``zarr_dir``; a converter makes it."""
        name, zarr_dir = run["dataset"], run["zarr_dir"]
        if not (self.step.is_converter and zarr_dir):
            store.get(name)
        dataset = store.get_or_create(name, zarr_dir) if zarr_dir else store.get(name)
        return {**run, "zarr_dir": dataset.zarr_dir, "version": dataset.version}

    def _input_urls(self, store: DatasetStore, run: RunState) -> list[str]:
        if self.step.is_converter:
            return []
        run["version"], images = store.snapshot(run["dataset"])
        type_filters = step_type_filters(
            run["type_filters"], self.step.input_types, self.step.type_filters, task=self.step.name
        )
        selected = select_images(images, type_filters, run["attribute_filters"], task=self.step.name)
        return [image.zarr_url for image in selected]

    def _batches(self, store: DatasetStore, run: RunState, urls: list[str]) -> list[Batch]:
        units = [Unit(zarr_url=url) for url in urls]
        if self.step.type != "parallel":
            # One command gets the whole list: it is one batch, whatever the resource can run at once.
            return cut_batches(units, [len(units)], zarr_dir=run["zarr_dir"])
        sizes = plan_sizes(
            len(units),
            self.step,
            resource=FractalHook(self.resource).get_conn(),
            images_per_batch=self.images_per_batch,
            unit_seconds=store.mean_seconds(self.step.task_key, run["dataset"]),
        )
        return cut_batches(units, sizes, zarr_dir=run["zarr_dir"])


def plan_sizes(
    count: int,
    step: ResolvedTask,
    *,
    resource: Resource,
    images_per_batch: int | None,
    unit_seconds: float | None = None,
) -> list[int]:
    """Return how many units each mapped task instance takes."""
    return resource.plan(
        count,
        step.meta_parallel,
        images_per_batch=images_per_batch,
        unit_seconds=unit_seconds,
        max_batches=conf.getint("core", "max_map_length"),
    )


def cut_batches(units: Sequence[Unit], sizes: Sequence[int], *, zarr_dir: str) -> list[Batch]:
    """Cut the units of a step into batches, in order, with the labels that the UI shows."""
    prefix = label_prefix([unit["zarr_url"] for unit in units], zarr_dir)
    batches: list[Batch] = []
    start = 0
    for index, size in enumerate(sizes):
        part = list(units[start : start + size])
        label = batch_label([unit["zarr_url"] for unit in part], prefix)
        batches.append(Batch(index=index, label=label, units=part))
        start += size
    return batches


def fingerprint(step: ResolvedTask, arguments: dict[str, dict[str, Any]]) -> str:
    """Return a digest of what decides a step's result besides its images: package, task, arguments."""
    what = [step.package.name, step.package.version, step.task_name, arguments]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
