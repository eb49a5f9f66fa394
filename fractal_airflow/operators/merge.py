"""The last task of a step: the outputs of its units become a new version of the image list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from fractal_airflow.assets import DATASETS
from fractal_airflow.collector import collector_paused
from fractal_airflow.exceptions import (
    ClusterNotReadyError,
    DatasetConflictError,
    ImageListError,
    ResourceError,
)
from fractal_airflow.fractal import ResolvedTask, edited_in_place, merge_step
from fractal_airflow.hooks.dataset_store import get_dataset_store
from fractal_airflow.hooks.fractal import FractalHook
from fractal_airflow.links import DatasetLink
from fractal_airflow.operators.base import FractalOperator
from fractal_airflow.operators.events import announce
from fractal_airflow.operators.failures import failure
from fractal_airflow.operators.idle import after_step
from fractal_airflow.operators.report import write_report
from fractal_airflow.operators.retries import ONLY_THE_STORE
from fractal_airflow.operators.same_dataset import check_same_dataset
from fractal_airflow.operators.xcoms import INIT_KEY, STEP_KEY, RunState, StepState

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from fractal_airflow.dataset import Merged
    from fractal_airflow.dataset.store import Change
    from fractal_airflow.execution.resource import Resource
    from fractal_airflow.fractal import Image, UnitResult
    from fractal_airflow.operators.step_units import ReadOutcomes, UnitEnd


class MergeOutputsOperator(FractalOperator):
    """
    Merge the outputs of a step into the dataset, in one transaction, and record each image's status.

    It runs however the units ended. What succeeded is merged first; then it fails, if a unit failed and the
    run does not go on without the images that failed.

    :param step: the workflow task, resolved against its package.
    :param select_task_id: the task that selected the images.
    :param init_task_id: the init of a compound task, which made the batches.
    :param run_task_id: the task that ran the units.
    :param step_number: the step's place among the steps of the DAG.
    :param resource: where the units ran.
    """

    operator_extra_links = (DatasetLink(),)

    def __init__(
        self,
        *,
        step: ResolvedTask,
        select_task_id: str,
        run_task_id: str,
        init_task_id: str | None = None,
        step_number: int = 0,
        resource: str = "local",
        ends_workflow: bool = False,
        trigger_rule: str = TriggerRule.ALL_DONE,
        retry_policy: RetryPolicy | None = ONLY_THE_STORE,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, retry_policy=retry_policy, **kwargs)
        self.step = step
        self.select_task_id = select_task_id
        self.init_task_id = init_task_id
        self.run_task_id = run_task_id
        self.step_number = step_number
        self.resource = resource
        self.ends_workflow = ends_workflow

    def execute(self, context: Context) -> RunState:
        """Return the dataset, its version and the run's choices, for the select of the next step."""
        state = self._selected(context)
        run = state["run"]
        if not state["active"] or state["idle"]:
            self._announce_the_others(context, run["dataset"])
            return after_step(run, self.step) if state["active"] else run
        after = after_step(run, self.step)
        batches = self._pull(context, self.select_task_id)
        input_urls = [unit["zarr_url"] for batch in batches for unit in batch["units"]]
        ends = self._unit_ends(context, input_urls)
        error = failure(self.step.name, [(end.zarr_url or "", end.outcome) for end in ends])
        goes_on = error is None or run["on_failure"] == "continue"
        # An init that found no units to compute has succeeded, too.
        some_done = error is None or any(not end.failed for end in ends)
        announced = goes_on and some_done and DATASETS in self.outlets
        version = self._merge(context, state, input_urls, ends, announced=announced)
        if goes_on and not announced:
            self._announce_the_others(context, run["dataset"])
        write_report(context, self.step, ends, error, merged=True)
        if error and not goes_on:
            raise error
        if error:
            self.log.error("%s\nThe run goes on without the images that failed", error)
        return {**after, "version": version}

    def _selected(self, context: Context) -> StepState:
        """Return what select found, or end without touching the dataset where select did not get that far."""
        ti = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.select_task_id], run_ids=[ti.run_id])
        select_state = states.get(ti.run_id, {}).get(self.select_task_id)
        state: StepState = self._pull(context, self.select_task_id, STEP_KEY) or StepState()
        if "run" in state and (select_state == "success" or not state["active"] or state["idle"]):
            return state
        if select_state == "skipped":
            raise AirflowSkipException(f"{self.step.name} was skipped")
        reason = state.get("error", f"{self.select_task_id} did not run to its end")
        error = AirflowFailException(f"{self.step.name}: nothing is merged: {reason}")
        if select_state == "failed":
            write_report(context, self.step, [], error, merged=False)
        raise error

    def _unit_ends(self, context: Context, input_urls: list[str]) -> list[UnitEnd]:
        from fractal_airflow.operators.step_units import LOST

        resource = FractalHook(self.resource).get_conn()
        ends = self._read_unit_ends(context, input_urls, resource.read_outcomes)
        if any(end.outcome is LOST for end in ends):
            self._end_leftovers(context, resource)
        return ends

    def _read_unit_ends(self, context: Context, input_urls: list[str], read: ReadOutcomes) -> list[UnitEnd]:
        from fractal_airflow.operators.step_units import mapped_units, whole_list_unit

        if self.init_task_id:
            batches = self._pull(context, self.init_task_id)
            if batches is None:
                return [whole_list_unit(input_urls, self._pull(context, self.init_task_id, INIT_KEY), read)]
        elif self.step.type == "parallel":
            batches = self._pull(context, self.select_task_id)
        else:
            return [whole_list_unit(input_urls, self._pull(context, self.run_task_id), read)]
        return mapped_units(batches, context["ti"].xcom_pull(task_ids=[self.run_task_id]), read)

    def _end_leftovers(self, context: Context, resource: Resource) -> None:
        """End what still runs of task instances that left no outcomes: nobody else will."""
        from fractal_airflow.execution.run_folder import run_folder

        ti = context["ti"]
        folder = run_folder(resource.work_dir, ti.dag_id, ti.run_id, self.step_number, self.step.name)
        try:
            ended = resource.leftovers(str(folder))
        except (ClusterNotReadyError, ResourceError) as error:
            # Settings that are wrong do not pass, and what has succeeded is to be merged.
            if isinstance(error, ClusterNotReadyError) and ti.try_number <= ti.max_tries:
                raise
            self.log.error("Jobs may be left over of task instances that are gone, in %s: %s", folder, error)
            return
        if ended:
            self.log.warning("Cancelled the jobs of task instances that are gone: %s", ", ".join(ended))

    def _merge(
        self,
        context: Context,
        state: StepState,
        input_urls: list[str],
        ends: list[UnitEnd],
        *,
        announced: bool,
    ) -> int:
        """
        Merge what the units returned; return the version that the dataset then has.

        :param announced: whether Airflow emits the dataset's event, since this task ends well.
        """
        from fractal_airflow.dataset import NO_IMAGE, StepRun
        from fractal_airflow.operators.step_units import image_statuses

        ti = context["ti"]
        store = get_dataset_store()
        run = state["run"]
        check_same_dataset(store.get(run["dataset"]), run)
        step_run = StepRun(ti.dag_id, ti.run_id, self.step_number, self.step.task_key)
        with collector_paused():
            results = [end.result() for end in ends]
        recorded = [NO_IMAGE] if self.step.is_converter else input_urls
        statuses = partial(image_statuses, recorded, ends, state["fingerprint"])
        try:
            merged = store.merge(
                run["dataset"],
                step_run,
                self._change(results, input_urls, run["zarr_dir"]),
                statuses(),
                selected_at=run["mark"],
                version=run["version"],
                announce=announced,
            )
        except (ImageListError, DatasetConflictError) as error:
            # What this step has merged before stands, where only another run is in the way of merging it anew.
            refused = isinstance(error, DatasetConflictError)
            failed = statuses(error=str(error))
            store.record_statuses(run["dataset"], step_run, failed, only_submitted=refused)
            write_report(context, self.step, ends, error, merged=False)
            context["ti"].xcom_push(key=STEP_KEY, value=StepState(error=str(error)))
            raise
        self._tell(context, run["dataset"], merged, announced=announced)
        return merged.version

    def _change(self, results: Sequence[UnitResult], input_urls: list[str], zarr_dir: str) -> Change:
        """Return what the step makes of an image list."""

        def change(images: list[Image], already_removed: frozenset[str]) -> list[Image]:
            after = merge_step(
                images,
                results,
                zarr_dir=zarr_dir,
                input_urls=input_urls,
                output_types=self.step.output_types,
                already_removed=already_removed,
            )
            return edited_in_place(after, results)

        return change

    def _tell(self, context: Context, name: str, merged: Merged, *, announced: bool) -> None:
        self.log.info(
            "Dataset %r is at version %d: %d images added, %d updated, %d removed",
            *(name, merged.version, len(merged.added), len(merged.updated), len(merged.removed)),
        )
        if announced:
            # A merge that an earlier try has done already changes nothing, and was perhaps never told.
            self._emit(context, name, merged if merged.written or merged.removed else None)

    def _announce_the_others(self, context: Context, name: str) -> None:
        """Announce what the steps before have changed, where this one would have and has done nothing."""
        if self.ends_workflow and DATASETS in self.outlets:
            self._emit(context, name)

    def _emit(self, context: Context, name: str, merged: Merged | None = None) -> None:
        """Emit the dataset's event: of a merge, or else of all that was not told yet, if there is any."""
        told = merged or get_dataset_store().announce(name)
        if told:
            announce(context, name, told, self.step.name, self.step_number)

    @staticmethod
    def _pull(context: Context, task_id: str, key: str = "return_value") -> Any:
        return context["ti"].xcom_pull(task_ids=[task_id], key=key)[0]
