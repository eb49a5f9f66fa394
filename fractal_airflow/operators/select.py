"""The first task of a step: which images it gets, in which batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from fractal_airflow.exceptions import FractalAirflowError, WorkflowError
from fractal_airflow.fractal import (
    Image,
    ResolvedTask,
    check_step_arguments,
    parse_attribute_filters,
    parse_type_filters,
    workflow_slice,
)
from fractal_airflow.fractal.choice import parse_image_choice, parse_on_failure
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import FractalHook
from fractal_airflow.links import DatasetLink
from fractal_airflow.operators.arguments import (
    Form,
    check_chosen,
    effective_arguments,
    recorded_arguments,
)
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.batches import cut_batches, plan_sizes
from fractal_airflow.operators.events import event_ranges, started_by_itself
from fractal_airflow.operators.idle import WorkflowTasks, after_step
from fractal_airflow.operators.same_dataset import check_same_dataset, identity_of
from fractal_airflow.operators.templates import from_json
from fractal_airflow.operators.xcoms import STEP_KEY, Batch, RunState, StepState, Unit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.dataset import DatasetStore, StepCall, StepRun
    from fractal_airflow.operators.inputs import EventRanges, StepInputs


log = logging.getLogger(__name__)


class _Selection(NamedTuple):
    """What select has found out: for merge, and for itself."""

    state: StepState
    urls: list[str]
    images: list[Image]
    step_run: StepRun | None
    call: StepCall | None


class SelectImagesOperator(FractalOperator):
    """
    Read the image list at one version, choose the images of the step, and return its batches.

    :param step: the workflow task, resolved against its package.
    :param step_number: the step's place among the steps of the DAG.
    :param dataset: (templated) a dataset's name, or what the merge of the step before returned.
    :param zarr_dir: (templated) where the tasks write; creates the dataset where the step is a converter.
    :param type_filters: (templated) the run's type filters, where ``dataset`` is a name.
    :param attribute_filters: (templated) the run's attribute filters, where ``dataset`` is a name.
    :param images: (templated) which images the run processes, where ``dataset`` is a name.
    :param on_failure: (templated) what follows a step with failures, where ``dataset`` is a name.
    :param arguments: (templated) the step's arguments: ``{"non_parallel": …, "parallel": …}``.
    :param form: the run parameters that may override them, in the same shape.
    :param together: attributes that images share which the task needs together, where not all are processed.
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
        "images",
        "on_failure",
        "arguments",
        "first_task_index",
        "last_task_index",
    )
    operator_extra_links = (DatasetLink(),)

    def __init__(
        self,
        *,
        step: ResolvedTask,
        dataset: Any,
        step_number: int = 0,
        zarr_dir: str | None = None,
        type_filters: Any = None,
        attribute_filters: Any = None,
        images: str | None = None,
        on_failure: str | None = None,
        arguments: dict[str, dict[str, Any]] | None = None,
        form: dict[str, Form] | None = None,
        together: Sequence[str] = (),
        step_count: int = 1,
        first_task_index: Any = None,
        last_task_index: Any = None,
        resource: str = "local",
        images_per_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.step_number = step_number
        self.dataset = dataset
        self.zarr_dir = zarr_dir
        self.type_filters = type_filters
        self.attribute_filters = attribute_filters
        self.images = images
        self.on_failure = on_failure
        self.arguments = arguments or {}
        self.form = form or {}
        self.together = list(together)
        self.step_count = step_count
        self.first_task_index = first_task_index
        self.last_task_index = last_task_index
        self.resource = resource
        self.images_per_batch = images_per_batch
        self.workflow: WorkflowTasks | None = None

    def execute(self, context: Context) -> list[Batch]:
        """Return the batches; what merge must know goes into the XCom ``step``."""
        try:
            store = get_dataset_store()
            found = self._select(context, store)
            batches = self._batches(store, found)
            if found.step_run and found.call:
                store.submit(found.state["run"]["dataset"], found.step_run, found.call, found.urls)
        except FractalAirflowError as error:
            context["ti"].xcom_push(key=STEP_KEY, value=StepState(error=str(error)))
            raise
        context["ti"].xcom_push(key=STEP_KEY, value=found.state)
        if not found.urls:
            self._skip(context, store, found)
        return batches

    def _select(self, context: Context, store: DatasetStore) -> _Selection:
        run = self._run_state()
        part = workflow_slice(self.step_count, self.first_task_index, self.last_task_index)
        if self.step.index not in part:
            return _Selection(StepState(run=run, active=False), [], [], None, None)
        check_chosen(context)
        arguments = self._effective(context, self.arguments)
        check_step_arguments(self.step, arguments)
        run = self._open_dataset(store, run)
        store.settle(run["dataset"], lambda dag_id, run_id: _run_state_of(context, dag_id, run_id))
        run["version"], images, run["mark"] = store.snapshot(run["dataset"])
        inputs = self._inputs(context, store, run, arguments, events=_events(context, run))
        urls = [] if started_by_itself(context) else inputs.urls(images)
        self.log.info("%s: %d images of dataset %r", self.step.name, len(urls), run["dataset"])
        state = StepState(run=run, active=True, idle=not urls, fingerprint=inputs.fingerprint)
        return _Selection(
            state, urls, images, inputs.step_run, self._call(context, arguments, inputs.fingerprint)
        )

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
            images=parse_image_choice(self.images),
            on_failure=parse_on_failure(self.on_failure),
        )

    def _open_dataset(self, store: DatasetStore, run: RunState) -> RunState:
        """Check that the dataset is there and has this ``zarr_dir``; a converter makes it."""
        name, zarr_dir = run["dataset"], run["zarr_dir"]
        if not (self.step.is_converter and zarr_dir):
            store.get(name)
        dataset = store.get_or_create(name, zarr_dir) if zarr_dir else store.get(name)
        check_same_dataset(dataset, run)
        return {**run, "zarr_dir": dataset.zarr_dir, "created": identity_of(dataset)}

    def _effective(self, context: Context, arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            half: effective_arguments(arguments.get(half) or {}, self.form.get(half, {}), context)
            for half in self.step.task.halves
        }

    def _inputs(
        self,
        context: Context,
        store: DatasetStore,
        run: RunState,
        arguments: dict[str, dict[str, Any]],
        *,
        events: EventRanges,
    ) -> StepInputs:
        from fractal_airflow.dataset import StepRun
        from fractal_airflow.operators.inputs import StepInputs, fingerprint

        ti = context["ti"]
        return StepInputs(
            store,
            self.step,
            StepRun(ti.dag_id, ti.run_id, self.step_number, self.step.task_key),
            run,
            fingerprint(self.step, arguments),
            self.together,
            events,
        )

    def _call(self, context: Context, arguments: dict[str, dict[str, Any]], digest: str) -> StepCall:
        from fractal_airflow.dataset import StepCall

        package = self.step.package
        authored = {"non_parallel": self.step.args_non_parallel, "parallel": self.step.args_parallel}
        recorded = {
            half: recorded_arguments(values, authored[half], self.form.get(half), context)
            for half, values in arguments.items()
        }
        return StepCall(
            package=package.name,
            version=package.version,
            name=self.step.name,
            arguments=recorded,
            fingerprint=digest,
            resource=self.resource,
        )

    def _batches(self, store: DatasetStore, found: _Selection) -> list[Batch]:
        if not found.urls:
            return []
        run = found.state["run"]
        units = [] if self.step.is_converter else [Unit(zarr_url=url) for url in found.urls]
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

    # Steps that have nothing to do

    def _skip(self, context: Context, store: DatasetStore, found: _Selection) -> None:
        """End as skipped; where no later step has anything to do either, skip them all at once."""
        if not found.state["active"]:
            reason = f"Step {self.step.index} is outside the part of the workflow that runs"
        else:
            run = found.state["run"]
            reason = f"{self.step.name}: nothing to do for images={run['images']!r}"
            if self.workflow and self._nothing_follows(context, store, found, self.workflow):
                self.log.info("%s; nor is there in any later step", reason)
                raise DownstreamTasksSkipped(tasks=self.workflow.without(self.task_id))
        raise AirflowSkipException(reason)

    def _nothing_follows(
        self, context: Context, store: DatasetStore, found: _Selection, workflow: WorkflowTasks
    ) -> bool:
        return workflow.nothing_to_do(
            self.dag,
            after_step(found.state["run"], self.step),
            workflow_slice(self.step_count, self.first_task_index, self.last_task_index),
            lambda select, run: select.has_work(context, store, run, found.images),
        )

    def has_work(self, context: Context, store: DatasetStore, run: RunState, images: list[Image]) -> bool:
        """
        Tell whether this step would get images, if none of the steps before it got any.

        It is asked of an operator that does not run: the select of the first step asks those of the others.
        """
        if started_by_itself(context):
            return False
        try:
            rendered = self.render_template(self.arguments, context, self.get_template_env())
            arguments = self._effective(context, rendered)
            inputs = self._inputs(context, store, run, arguments, events=_events(context, run))
            return bool(inputs.urls(images))
        except Exception as error:  # a template that needs what is not there yet, say
            self.log.debug("%s has to find out for itself: %s", self.task_id, error)
            return True


def _events(context: Context, run: RunState) -> EventRanges:
    """Return what the events tell; later steps keep to what the first one found, and to what came of that."""
    if run["images"] == "event" and "events" not in run:
        run["events"] = event_ranges(context, run["dataset"], run["mark"])
    return run.get("events", ())


def _run_state_of(context: Context, dag_id: str, run_id: str) -> str:
    try:
        return str(context["ti"].get_dagrun_state(dag_id, run_id))
    except Exception as error:  # Airflow has several for a run that it does not know
        log.debug("Run %s of %s is taken to be running: %s", run_id, dag_id, error)
        return "running"  # for all that is known here: it may be of another Airflow with the same store
