"""Units as jobs of a SLURM cluster: a job for each batch, submitted once, and waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fractal_airflow.exceptions import ClusterNotReadyError, JobCancelledError, WorkFolderError
from fractal_airflow.execution import runner
from fractal_airflow.execution.archive import program_path
from fractal_airflow.execution.progress import MOST_FAILURES_SHOWN
from fractal_airflow.execution.resource import BatchCall, BatchEnd, Resource
from fractal_airflow.execution.resource_config import ResourceConfig
from fractal_airflow.execution.run_files import BatchFiles, batch_files, text_of
from fractal_airflow.execution.slurm.batching import batching_config, plan_slurm_batches, targets
from fractal_airflow.execution.slurm.cluster import Cluster
from fractal_airflow.execution.slurm.ends import end_of_batch, usage_line
from fractal_airflow.execution.slurm.messages import Collected, JobRef, PollItem, Submitted
from fractal_airflow.execution.slurm.request import JobRequest, job_request
from fractal_airflow.execution.slurm.states import phase_of
from fractal_airflow.execution.slurm.transport import Transport, make_transport
from fractal_airflow.execution.slurm.watch import JobWatch
from fractal_airflow.execution.units import ErrorKind, Outcome, outcomes_of

T = TypeVar("T")

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
MOST_SUBMISSIONS = 3
ENDED = "Airflow: the task instance was ended"

__all__ = ["JobRef", "SlurmResource", "Submitted"]


class SlurmResource(Resource):
    """Runs batches as jobs of a cluster.

    Where a call to the cluster has no answer for now, it raises ClusterNotReadyError: the same call may be made
    again at any time. Only :meth:`run` waits by itself.

    :param transport: the way to the cluster, where it is not the one that the configuration names.
    """

    defers = True

    def __init__(self, config: ResourceConfig, transport: Transport | None = None) -> None:
        self.type = config.type
        self.work_dir = Path(config.work_dir)
        self.config = config
        self.cluster = Cluster(transport or make_transport(config), str(config.work_dir), config.python)
        self._running: dict[str, str] | None = None
        self._ended = False

    @property
    def slots(self) -> int:
        """How many jobs a step should have at most."""
        return targets(batching_config(self.config)).jobs or 1

    def plan(
        self,
        n_units: int,
        meta: Mapping[str, Any],
        *,
        images_per_batch: int | None = None,
        unit_seconds: float | None = None,
        max_batches: int = 1024,
    ) -> list[int]:
        """Return the sizes of the batches for so many units (see :func:`plan_slurm_batches`)."""
        return plan_slurm_batches(
            self.config, meta, n_units, images_per_batch=images_per_batch, max_batches=max_batches
        )

    def submit(self, call: BatchCall, *, log: logging.Logger) -> Submitted:
        """Submit the job of a batch, or adopt the one that it has already, in one remote call.

        :raises ClusterNotReadyError: if the cluster does not take it for now: call again later.
        :raises SubmissionError: if SLURM refuses it.
        :raises WorkFolderError: if the work folder cannot be written.
        :raises ResourceError: if a unit fits no job.
        :raises JobCancelledError: after :meth:`cancel`, which may come in the middle of this.
        """
        self._running = {"folder": call.folder, "generation": call.generation}
        self._check_wanted()
        fields = submit_fields(call, self.request(call))
        submitted = self.cluster.submit(fields, own_python=call.work().script_python)
        if submitted.job:
            self._running = {"id": submitted.job.id, "folder": submitted.folder}
        self._check_wanted(submitted)
        for line in submitted_lines(submitted):
            log.info("%s", line)
        return submitted

    def request(self, call: BatchCall) -> JobRequest:
        """Return the job of a batch, as it would be submitted.

        :raises ResourceError: if a unit fits no job.
        """
        return job_request(
            self.config,
            call.meta,
            call.left or len(call.units),
            label=call.label,
            account=call.account,
            worker_init=call.worker_init,
            memory_factor=call.memory_factor,
            time_factor=call.time_factor,
            python=call.work().script_python or self.config.python or "python3",
            program=program_path(str(self.work_dir)),
        )

    def with_more(self, call: BatchCall, kinds: Collection[ErrorKind]) -> BatchCall | None:
        """Return the call for another try, with more of what units ran out of; None if there is no more.

        :param kinds: how units failed.
        """
        more = replace(
            call,
            memory_factor=call.memory_factor * (self.config.memory_factor if "memory" in kinds else 1),
            time_factor=call.time_factor * (self.config.time_factor if "time" in kinds else 1),
        )
        had, gets = self.request(call), self.request(more)
        grows = (gets.unit_mem_mb or 0) > (had.unit_mem_mb or 0) or (gets.time_limit_s or 0) > (
            had.time_limit_s or 0
        )
        return more if grows else None

    def finish(
        self,
        submitted: Submitted,
        *,
        log: logging.Logger,
        collected: Collected | None = None,
    ) -> BatchEnd:
        """Return what came of a batch whose job has ended, is lost, or is not to be waited for any longer.

        A job that has not ended after all, or is in a state that nobody knows, is cancelled.

        :param collected: what somebody has collected already.
        :raises WorkFolderError: if the runner could not write any results.
        """
        job_id = submitted.job.id if submitted.job else None
        if collected is None:
            collected = self.cluster.collect(submitted.folder, submitted.count, job_id)
        if job_id and collected.job and phase_of(collected.job.state or "") != "ended":
            self._cancel(submitted, "Airflow: it was not to be waited for any longer")
        none_done = not any(result.get("status") == "done" for result in collected.results)
        if collected.exit in (runner.EXIT_WRITING_FAILED, runner.EXIT_LOCKED) and none_done:
            raise WorkFolderError(
                f"Job {job_id} cannot use the work folder {submitted.folder}: "
                f"{collected.stderr_tail or 'its runner could not write its results'}"
            )
        end = end_of_batch(submitted, collected)
        _show_failures(end, log)
        if job_id and end.usage:
            log.info("Job %s: %s", job_id, usage_line(end.usage))
        return end

    def run(self, call: BatchCall, *, log: logging.Logger) -> BatchEnd:
        """Run the units that have no good result yet, and wait for them, in this process.

        :raises SubmissionError: if SLURM refuses the job.
        :raises WorkFolderError: if the work folder cannot be written.
        """
        for submission in range(1, MOST_SUBMISSIONS + 1):
            submitted = _insist(lambda: self.submit(call, log=log), log)
            if submitted.job:
                self._wait(submitted, log)
            end = _insist(lambda: self.finish(submitted, log=log), log)  # noqa: B023 - called at once
            # A former try of the task instance may be ended only now, and take its job, which is ours, along.
            adopted = submitted.job is not None and submitted.job.adopted
            if not (adopted and end.cancelled_by) or submission == MOST_SUBMISSIONS:
                break
            log.info("The adopted job was cancelled by %s: submitting again", end.cancelled_by)
        self._running = None
        return end

    def _wait(self, submitted: Submitted, log: logging.Logger) -> None:
        watch = JobWatch.of(submitted, self.config.results_wait, time.monotonic())
        offset, pause_s, state = submitted.offset, FIRST_PAUSE_S, watch.state
        while watch.verdict is None:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, max(self.config.poll_interval, FIRST_PAUSE_S))
            try:
                status = self.cluster.poll([PollItem(watch.job_id, submitted.folder, offset)])[watch.job_id]
            except ClusterNotReadyError as error:
                pause_s = max(pause_s, error.pause_s)
                lines = watch.not_ready(error, time.monotonic())
            else:
                offset = status.offset
                lines = watch.take(status, time.monotonic())
                if status.state != state:
                    state, pause_s = status.state, FIRST_PAUSE_S
            for line in lines:
                log.info("%s", line)

    def cancel(self) -> None:
        """Cancel the job that this process has submitted, or is just submitting; from now on it submits none."""
        self._ended = True
        if self._running is None:
            return
        # The main thread may be in the middle of a call: that connection is not to be used now.
        cluster = Cluster(make_transport(self.config), str(self.work_dir), self.config.python)
        cluster.cancel([self._running], by=ENDED)

    def _check_wanted(self, submitted: Submitted | None = None) -> None:
        """Stop what goes on after a signal had its job cancelled: Airflow lets it, for some seconds."""
        if self._ended:
            if submitted is not None:
                self._cancel(submitted, ENDED)
            raise JobCancelledError("The task instance was ended: no job is submitted for it any more")

    def cancel_batch(self, call: BatchCall) -> None:
        """Cancel what may have been submitted for a batch, where nobody could be told."""
        jobs = [{"folder": call.folder, "generation": call.generation}]
        self.cluster.cancel(jobs, by="Airflow: the task instance is not waited for any longer")

    def _cancel(self, submitted: Submitted, by: str) -> None:
        if submitted.job:
            self.cluster.cancel([{"id": submitted.job.id, "folder": submitted.folder}], by=by)

    def read_outcomes(self, folder: str, count: int) -> list[Outcome]:
        """Return the outcomes that an attempt's folder holds, in the order of its units."""
        results = {result["index"]: result for result in self.cluster.results(folder, count)}
        return outcomes_of(results, folder, count)

    def reject(self, folder: str, messages: Mapping[int, str]) -> None:
        """Turn good results of an attempt into failed ones, so that a retry runs these units again."""
        self.cluster.settle(folder, reject=messages)

    def take(self, folder: str) -> None:
        """Note that the complete results of an attempt were taken: only their own retry adopts it now."""
        self.cluster.settle(folder, take=True)

    def read_text(self, run: str, path: str, max_bytes: int) -> str:
        """Return a text file of a run: where it is longer, its end, below a line that says so."""
        work_dir = str(self.work_dir)
        fields = {"work_dir": work_dir, "run": run, "path": path, "max_bytes": max_bytes}
        reply = self.cluster.ask({"do": "read_text", **fields})
        return text_of(reply, path, f"on {self.cluster.where}", work_dir)

    def read_log(
        self, step_folder: str, index: int, unit: int, max_bytes: int, *, whole_list: bool
    ) -> str | None:
        """Return the log of one unit of the newest attempt of a batch; None where there is no attempt."""
        work_dir = str(self.work_dir)
        batch = {"work_dir": work_dir, "step_folder": step_folder, "index": index, "whole_list": whole_list}
        reply = self.cluster.ask({"do": "read_log", **batch, "unit": unit, "max_bytes": max_bytes})["log"]
        return None if reply is None else text_of(reply, reply["path"], f"on {self.cluster.where}", work_dir)

    def read_batch(self, step_folder: str, index: int, *, whole_list: bool) -> BatchFiles | None:
        """Return what the newest attempt of a batch has left so far; None where there is none."""
        fields = {"step_folder": step_folder, "index": index, "whole_list": whole_list}
        return batch_files(self.cluster.ask({"do": "units_of", **fields})["batch"])

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files into a folder, as the user whose jobs run there."""
        for name, content in files.items():
            self.cluster.put(f"{folder}/{name}", content)

    def read_file(self, path: str) -> bytes | None:
        """Return a file of any folder; None where there is none."""
        return self.cluster.get(path)

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        self.cluster.close()

    def leftovers(self, step_folder: str) -> list[str]:
        """Cancel the jobs of a step whose task instances are gone; return their ids."""
        return self.cluster.leftovers(step_folder, by="Airflow: the task instance of this job is gone")


def submit_fields(call: BatchCall, request: JobRequest) -> dict[str, Any]:
    """Return what the program on the cluster is told of a batch and its job."""
    return {
        "batch_folder": call.folder,
        "generation": call.generation,
        "batch": {
            **call.work(request.parallel).batch_file(),
            **({"gpus": request.gpus} if request.gpus else {}),
            **({"mem_mb": request.unit_mem_mb} if request.unit_mem_mb else {}),
        },
        "units": call.units,
        "script": request.script,
        "name_prefix": request.name,
    }


def submitted_lines(submitted: Submitted) -> list[str]:
    """Return what the log says of a submission."""
    job, done, count = submitted.job, submitted.done, submitted.count
    lines = []
    if done:
        lines.append(f"{done} of {count} units are done since an earlier try")
    if job and job.adopted:
        lines.append(f"Job {job.id} ({job.name}) of an earlier try goes on, in {submitted.folder}")
    elif job:
        lines.append(f"Submitted job {job.id} ({job.name}): {count - done} units in {submitted.folder}")
    return lines


def _insist(action: Callable[[], T], log: logging.Logger) -> T:
    """Do something again, with growing pauses, until the cluster is ready for it."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return action()
        except ClusterNotReadyError as error:
            pause_s = min(LONGEST_PAUSE_S, max(pause_s, error.pause_s))
            log.warning("%s. Trying again in %.0f s.", str(error).rstrip("."), pause_s)
            time.sleep(pause_s)
            pause_s *= 2


def _show_failures(end: BatchEnd, log: logging.Logger) -> None:
    failed = [(index, outcome.error) for index, outcome in enumerate(end.outcomes) if outcome.error]
    for index, error in failed[:MOST_FAILURES_SHOWN]:
        log.error("Unit %d failed: %s", index, error.message)
    if len(failed) > MOST_FAILURES_SHOWN:
        log.error("%d more units failed; their logs are in %s", len(failed) - MOST_FAILURES_SHOWN, end.folder)
