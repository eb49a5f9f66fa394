"""Which images a step gets: those that pass the filters and have not failed, and of them those chosen for the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fractal_airflow.dataset import NO_IMAGE
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import filter_images, select_images, step_type_filters
from fractal_airflow.fractal.choice import complete_groups, whole_groups, without_failed
from fractal_airflow.fractal.manifest import HALVES

if TYPE_CHECKING:
    from fractal_airflow.dataset import DatasetStore, StepRun
    from fractal_airflow.fractal import Image, ResolvedTask
    from fractal_airflow.operators.xcoms import RunState

EventRanges = Iterable[Sequence[int]]
"""The merges that the events tell of which a run was started by: after the first number, up to the second."""


@dataclass(frozen=True)
class StepInputs:
    """
    Chooses the images of one step of a run.

    :param fingerprint: see :func:`fingerprint`.
    :param together: the attributes that images share which the task needs together.
    :param events: the merges whose images are chosen, where the run processes those of events.
    """

    store: DatasetStore
    step: ResolvedTask
    step_run: StepRun
    run: RunState
    fingerprint: str
    together: Sequence[str] = ()
    events: EventRanges = ()

    def urls(self, images: Sequence[Image]) -> list[str]:
        """
        Return the images that the step gets; none: it has nothing to do. For a converter, ``NO_IMAGE``.

        :param images: the image list.
        :raises EmptyImageListError: where all images were chosen, and none passes the filters.
        """
        if self.step.is_converter:
            return self._converter_urls()
        failed = self.store.failed_in_run(
            self.run["dataset"], self.step_run.dag_id, self.step_run.run_id, self.step_run.step
        )
        passing = self._passing(images, may_be_none=bool(failed))
        left = without_failed(passing, images, failed)
        candidates = complete_groups(left, passing, self.together) if failed else left
        return [image.zarr_url for image in self._chosen(candidates)]

    def _passing(self, images: Sequence[Image], *, may_be_none: bool) -> list[Image]:
        """
        Return the images that pass the filters.

        :param may_be_none: whether the failures of the steps before may be why there are none.
        """
        attribute_filters = self.run["attribute_filters"]
        type_filters = step_type_filters(
            self.run["type_filters"], self.step.input_types, self.step.type_filters, task=self.step.name
        )
        if self.run["images"] == "all" and not may_be_none:
            return select_images(images, type_filters, attribute_filters, task=self.step.name)
        return filter_images(images, type_filters, attribute_filters)

    def _converter_urls(self) -> list[str]:
        """A converter has no images: what it has done, or failed to do, is kept under ``NO_IMAGE``."""
        choice, name = self.run["images"], self.run["dataset"]
        if choice == "all":
            return [NO_IMAGE]
        if choice == "failed":
            return [NO_IMAGE] if NO_IMAGE in self.store.failed_before(name, self.step_run) else []
        done = self.store.unchanged(name, self.step_run, self.fingerprint)
        return [] if NO_IMAGE in done else [NO_IMAGE]

    def _chosen(self, candidates: Sequence[Image]) -> Sequence[Image]:
        choice = self.run["images"]
        if choice == "all":
            return candidates
        wanted = {image.zarr_url for image in candidates}
        if choice != "pending":
            wanted &= self._named() | self._made_by_this_run()
        if choice != "failed" and wanted:
            # One run may hear of events that another has dealt with. What an event tells of is new to this
            # step, whichever DAG has written it.
            done = self.store.unchanged(
                self.run["dataset"], self.step_run, self.fingerprint, any_dag=choice == "event"
            )
            wanted -= done
        return whole_groups(wanted, candidates, self.together)

    def _named(self) -> set[str]:
        """The images that failed before, or that others have written in what the events tell of."""
        name = self.run["dataset"]
        if self.run["images"] == "failed":
            return self.store.failed_before(name, self.step_run)
        dag_id = self.step_run.dag_id
        written = [self.store.written_between(name, *merges, except_dag_id=dag_id) for merges in self.events]
        return set().union(*written)

    def _made_by_this_run(self) -> set[str]:
        """What comes of the images that this run has processed in the steps before."""
        return self.store.written_in_run(
            self.run["dataset"], self.step_run.dag_id, self.step_run.run_id, self.step_run.step
        )


def fingerprint(step: ResolvedTask, arguments: Mapping[str, Mapping[str, Any]]) -> str:
    """
    Return a digest of what decides a step's result besides its images: package, task, arguments.

    :raises WorkflowError: where an argument is no JSON, as a template of native objects may give it.
    """
    of_halves = {half: dict(arguments.get(half, {})) for half in HALVES}
    what = [step.package.name, step.package.version, step.task_name, of_halves]
    try:
        text = json.dumps(what, sort_keys=True)
    except TypeError as error:
        raise WorkflowError(
            f"{step.name}: an argument is no JSON, and no task could read it: {error}. Is it a template?"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]
