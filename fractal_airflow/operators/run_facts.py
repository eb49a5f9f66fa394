"""What became of a run: gathered from the states of its tasks, their XComs and the dataset store."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import conf

from fractal_airflow.operators.xcoms import STEP_KEY, StepState
from fractal_airflow.provenance.facts import FailedUnit, RunFacts, StepEnd, StepFacts
from fractal_airflow.provenance.report import MOST_FAILURES

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fractal_airflow.dataset import DatasetStore, StatusRecord, StepRecord
    from fractal_airflow.operators.report_run import ReportedStep

_CHOICES = ("type_filters", "attribute_filters", "images", "on_failure")


class RunTasks:
    """
    The tasks of a run's steps: their states, and what they left.

    :param steps: the steps of the workflow that is reported on.
    """

    def __init__(self, context: Context, steps: Sequence[ReportedStep]) -> None:
        self._ti: Any = context["ti"]
        wanted = [task_id for step in steps for task_id in step.single_task_ids]
        states = self._ti.get_task_states(dag_id=self._ti.dag_id, task_ids=wanted, run_ids=[self._ti.run_id])
        self._states: dict[str, str | None] = states.get(self._ti.run_id, {})
        self._selected = {step.number: self._step_state(step.select_task_id) for step in steps}
        self._steps = steps

    @property
    def failed(self) -> bool:
        """Whether any of them failed."""
        return "failed" in self._states.values()

    @property
    def idle(self) -> bool:
        """Whether all that there was to do is nothing."""
        return not self.failed and all(self.skipped(step) for step in self._steps)

    def skipped(self, step: ReportedStep) -> bool:
        """Whether a step did nothing. The select that skips all later steps, too, ends well itself."""
        return self.state(step.select_task_id) == "skipped" or bool(self.selected(step).get("idle"))

    def state(self, task_id: str | None) -> str | None:
        """Return the state of a task; None where it has none, or there is no such task."""
        return self._states.get(task_id) if task_id else None

    def selected(self, step: ReportedStep) -> StepState:
        """Return what the select of a step found out."""
        return self._selected[step.number]

    def merge_error(self, step: ReportedStep) -> str | None:
        """Return why nothing of a step was merged."""
        return self._step_state(step.merge_task_id).get("error")

    def first_run_state(self) -> dict[str, Any] | None:
        """Return what the run chose, as the first select has it that has read the dataset."""
        known = [dict(run) for step in self._steps if (run := self._selected[step.number].get("run"))]
        return next((run for run in known if "version" in run), known[0] if known else None)

    def _step_state(self, task_id: str) -> StepState:
        if self._states.get(task_id) in (None, "upstream_failed", "removed"):
            return StepState()
        return self._ti.xcom_pull(task_ids=[task_id], key=STEP_KEY)[0] or StepState()


def run_facts(
    context: Context,
    store: DatasetStore,
    tasks: RunTasks,
    steps: Sequence[ReportedStep],
    *,
    workflow_name: str,
    workflow_description: str | None,
) -> RunFacts:
    """Return what became of a run."""
    ti: Any = context["ti"]
    run = tasks.first_run_state() or {}
    dataset = str(run.get("dataset", ""))
    records = _records(store, dataset, ti.dag_id, ti.run_id) if "version" in run else {}
    facts = [_step_facts(ti, store, tasks, dataset, step, records.get(step.number)) for step in steps]
    if tasks.failed and not any(step.end == "failed" for step in facts):
        facts[0] = _not_begun(facts[0])
    made = [version for step in steps if (record := records.get(step.number)) for version in record.versions]
    before = run.get("version")
    return RunFacts(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        workflow_name=workflow_name,
        workflow_description=workflow_description,
        dataset=dataset,
        zarr_dir=str(run.get("zarr_dir", "")),
        steps=facts,
        parameters={name: run[name] for name in _CHOICES if name in run},
        versions=(before, max(made, default=before)),
        agent=getattr(context["dag_run"], "triggering_user_name", None),
        link=run_link(ti),
        software=software(),
        reported_at=datetime.now(UTC),
    )


def software() -> dict[str, str]:
    """Return the versions of what runs a workflow: this provider first."""
    return {
        "fractal-airflow": version("fractal-airflow"),
        "apache-airflow": version("apache-airflow-core"),
        "Python": platform.python_version(),
    }


def run_link(ti: Any) -> str:
    """Return the address of a run in Airflow."""
    base = str(conf.get("api", "base_url", fallback="http://localhost:8080/")).rstrip("/")
    return f"{base}/dags/{quote(ti.dag_id)}/runs/{quote(ti.run_id)}"


def task_link(ti: Any, task_id: str, map_index: int | None = None, try_number: int | None = None) -> str:
    """Return the address of a task instance in Airflow, which shows its log."""
    mapped = f"/mapped/{map_index}" if map_index is not None and map_index >= 0 else ""
    tried = f"?try_number={try_number}" if try_number else ""
    return f"{run_link(ti)}/tasks/{quote(task_id)}{mapped}{tried}"


def _records(store: DatasetStore, dataset: str, dag_id: str, run_id: str) -> dict[int, StepRecord]:
    return {record.step: record for record in store.step_runs(dataset, dag_id=dag_id, run_id=run_id)}


def _step_facts(
    ti: Any,
    store: DatasetStore,
    tasks: RunTasks,
    dataset: str,
    reported: ReportedStep,
    record: StepRecord | None,
) -> StepFacts:
    step = reported.step
    failed, counts = _failed(store, dataset, record)
    end = _end(tasks, reported, bool(failed))
    error, error_task = _error(tasks, reported, end, bool(failed))
    failed_task = reported.run_task_id
    if reported.init_task_id and tasks.state(reported.init_task_id) == "failed":
        failed_task = reported.init_task_id
    return StepFacts(
        index=step.index,
        number=reported.number,
        name=step.name,
        task_name=step.task_name,
        task_key=step.task_key,
        package=step.package.name,
        version=step.package.version,
        type=step.type,
        end=end,
        description=step.description,
        type_filters=step.type_filters,
        meta_non_parallel=step.meta_non_parallel,
        meta_parallel=step.meta_parallel,
        arguments=record.arguments if record else None,
        resource=(record and record.resource) or reported.resource,
        error=error,
        error_link=task_link(ti, error_task) if error_task else None,
        counts=counts,
        standing=record.statuses.get("failed", 0) - len(failed) if record else 0,
        written=_written(record) if record else {},
        started_at=record.started_at if record else None,
        ended_at=record.ended_at if record else None,
        failed=[] if error else failed_units(ti, failed_task, failed),
    )


def _failed(
    store: DatasetStore, dataset: str, record: StepRecord | None
) -> tuple[list[StatusRecord], dict[str, int]]:
    """
    Return the statuses of the images that failed themselves, and how many images have which status.

    An image that counts as failed because another unit of a compound step failed is as good as done.
    """
    if record is None:
        return [], {}
    counts = {str(status): count for status, count in record.statuses.items()}
    if not counts.get("failed"):
        return [], counts
    statuses = store.statuses(
        dataset,
        dag_id=record.dag_id,
        run_id=record.run_id,
        step=record.step,
        status="failed",
        latest=False,
    )
    failed = [status for status in statuses if not status.computed]
    standing = len(statuses) - len(failed)
    return failed, {**counts, "failed": len(failed), "done": counts.get("done", 0) + standing}


def _end(tasks: RunTasks, step: ReportedStep, some_failed: bool) -> StepEnd:
    select = tasks.state(step.select_task_id)
    if tasks.skipped(step):
        return "left out" if tasks.selected(step).get("active") is False else "skipped"
    if select == "failed" or some_failed:
        return "failed"
    if select != "success":
        return "not reached"
    return "done" if tasks.state(step.merge_task_id) == "success" else "failed"


def _error(
    tasks: RunTasks, step: ReportedStep, end: StepEnd, some_failed: bool
) -> tuple[str | None, str | None]:
    """Return why a step failed as a whole, and the task whose log says more."""
    if end != "failed":
        return None, None
    if tasks.state(step.select_task_id) == "failed":
        return tasks.selected(step).get("error", "its images could not be selected"), step.select_task_id
    error = tasks.merge_error(step)
    if error is None and not some_failed:
        error = "its outputs were not merged"
    return error, step.merge_task_id if error else None


def _not_begun(step: StepFacts) -> StepFacts:
    from dataclasses import replace

    return replace(step, end="failed", error="it could not begin, since a task before it failed")


def _written(record: StepRecord) -> Mapping[str, int]:
    return {"made": record.made, "edited": record.edited, "removed": record.removed}


def failed_units(ti: Any, task_id: str, statuses: Sequence[StatusRecord]) -> list[FailedUnit]:
    """
    Return the units that failed; the images of a command that got the whole list are one.

    As many as a report names have the address of their task instance.
    """
    by_unit: dict[tuple[Any, ...], list[StatusRecord]] = {}
    for status in statuses:
        own = status.zarr_url if status.map_index is not None or not status.log else ""
        by_unit.setdefault((status.map_index, status.log, own), []).append(status)
    return [
        FailedUnit(
            zarr_urls=[status.zarr_url for status in unit if status.zarr_url],
            error=unit[0].error or "failed without a reason",
            log=unit[0].log,
            link=task_link(ti, task_id, unit[0].map_index, unit[0].try_number)
            if place < MOST_FAILURES
            else None,
        )
        for place, unit in enumerate(by_unit.values())
    ]
