"""Checking a cluster for real: connects, asks all that will be asked, and has a one-second job run."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fractal_airflow.exceptions import (
    ClusterBusyError,
    ClusterNotReadyError,
    FractalAirflowError,
    SubmissionError,
    WorkFolderError,
)
from fractal_airflow.execution.findings import Finding, is_well, sentence
from fractal_airflow.execution.resource import BatchCall
from fractal_airflow.execution.resource_config import ResourceConfig, load_resource_config
from fractal_airflow.execution.runner.cluster.check import CHECK_FOLDER
from fractal_airflow.execution.slurm.check import judge, judge_pending, judge_round_trips
from fractal_airflow.execution.slurm.messages import PollItem, Submitted
from fractal_airflow.execution.slurm.resource import SlurmResource
from fractal_airflow.execution.slurm.states import phase_of
from fractal_airflow.execution.slurm.transport import Transport, make_transport
from fractal_airflow.execution.slurm.watch import JobWatch

ROUND_TRIPS = 5
POLL_S = 1.0
RUN_S = 60.0  # how much longer than a job is waited for it may run
SECONDS_OF_JOB = 1

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())
_log.propagate = False  # what the job's own log would say is in the findings


class ClusterCheck:
    """
    The check of one cluster.

    :ivar facts: what the program on the cluster found out; empty until it has been asked.
    """

    def __init__(self, config: ResourceConfig, transport: Transport | None = None) -> None:
        self._config = config
        self._transport = transport or make_transport(config)
        self._resource = SlurmResource(config, self._transport)
        self.facts: dict[str, Any] = {}

    def look(self) -> Iterator[Finding]:
        """Connect, and ask; stop at what makes further questions useless."""
        try:
            yield self._round_trips()
        except FractalAirflowError as error:
            yield _unreachable(error, self._config)
            return
        try:
            self.facts = self._resource.cluster.ask({"do": "check", "work_dir": str(self._config.work_dir)})
        except FractalAirflowError as error:
            check = "work folder" if isinstance(error, WorkFolderError) else "program"
            yield Finding(check, "error", str(error))
            return
        yield from judge(self.facts, self._config)

    def run_job(
        self,
        meta: Mapping[str, Any],
        *,
        account: str | None = None,
        wait_s: float = 60.0,
        name: str = "job",
    ) -> Iterator[Finding]:
        """
        Have a job run that takes a second, from its submission to its result.

        :param meta: what it asks for, over the resource's configuration.
        :param wait_s: how long it may wait for its start.
        """
        folder = f"{self._config.work_dir}/{CHECK_FOLDER}/{secrets.token_hex(6)}"
        call = BatchCall(
            units=[{}],
            command=("/bin/sh", "-c", f"sleep {SECONDS_OF_JOB}"),
            folder=f"{folder}/job",
            generation="check",
            meta=meta,
            label="resource check",
            account=account,
        )
        try:
            finding = self._submit_and_wait(call, wait_s)
        except SubmissionError as error:
            finding = Finding("job", "error", f"SLURM refuses it: {error}", _advice_on_refusal(str(error)))
        except ClusterBusyError as error:
            finding = Finding(
                "job", "warning", f"SLURM takes no jobs for now: {error}", "Such jobs are tried again"
            )
        except FractalAirflowError as error:
            finding = Finding("job", "error", str(error))
        if finding.status == "ok":
            self._transport.run(["rm", "-rf", "--", folder])
        yield Finding(name, finding.status, finding.message, finding.advice)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _round_trips(self) -> Finding:
        seconds = []
        for _ in range(1 + ROUND_TRIPS):
            clock = time.monotonic()
            self._transport.run(["true"])
            seconds.append(time.monotonic() - clock)
        return judge_round_trips(self._transport.where, seconds[0], seconds[1:])

    def _submit_and_wait(self, call: BatchCall, wait_s: float) -> Finding:
        clock = time.monotonic()
        submitted = self._resource.submit(call, log=_log)
        assert submitted.job is not None, "a new folder has no results"
        submit_s = time.monotonic() - clock
        try:
            end = self._wait(submitted, wait_s)
        except BaseException:
            self._resource.cancel_batch(call)
            raise
        if isinstance(end, Finding):
            self._resource.cancel_batch(call)
            return end
        waited_s = end
        batch = self._resource.finish(submitted, log=_log)
        (outcome,) = batch.outcomes
        job = submitted.job.id
        if outcome.error:
            return Finding(
                "job",
                "error",
                f"job {job} failed: {outcome.error.message}",
                f"Its files are in {submitted.folder}. Do compute nodes see the work folder at this path, and is "
                "there a Python >= 3.9 on them (`python` in the resource's connection)?",
            )
        return Finding(
            "job",
            "ok",
            f"job {job} ran on {outcome.host}: submitted in {submit_s:.2f} s, started after {waited_s:.0f} s, "
            f"its result was here after {time.monotonic() - clock:.0f} s",
        )

    def _wait(self, submitted: Submitted, wait_s: float) -> float | Finding:
        """Wait for the job's end; return how long it waited for its start, or why that makes no sense."""
        watch = JobWatch.of(submitted, self._config.results_wait, time.monotonic())
        began = time.monotonic()
        started: float | None = None
        offset = 0
        while watch.verdict is None:
            time.sleep(POLL_S)
            now = time.monotonic()
            try:
                status = self._resource.cluster.poll([PollItem(watch.job_id, submitted.folder, offset)])[
                    watch.job_id
                ]
            except ClusterNotReadyError:
                if now - began > wait_s + RUN_S:
                    raise
                continue
            offset = status.offset
            watch.take(status, now)
            pending = phase_of(status.state or "") == "pending"
            if pending and now - began > wait_s:
                return judge_pending(watch.job_id, status.reason, now - began)
            if not pending and started is None:
                started = now
            if phase_of(status.state or "") == "running" and now - (started or now) > RUN_S + wait_s:
                return Finding(
                    "job",
                    "error",
                    f"job {watch.job_id} still runs on {status.nodes} after {now - (started or now):.0f} s, and was "
                    f"cancelled: it should take {SECONDS_OF_JOB} s",
                    f"See what hangs on that machine; the job's files are in {submitted.folder}",
                )
        return max(0.0, (started or time.monotonic()) - began - POLL_S)


def look_at(configuration: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a cluster can be used, as far as can be seen without a job, and what there is to say."""
    cluster = ClusterCheck(load_resource_config(configuration))
    try:
        findings = list(cluster.look())
    finally:
        cluster.close()
    told = [finding for finding in findings if finding.status == "error"] or findings
    return is_well(findings), " ".join(
        f"{sentence(finding.message)} {sentence(finding.advice)}".strip() for finding in told
    )


def _unreachable(error: FractalAirflowError, config: ResourceConfig) -> Finding:
    advice = ""
    if isinstance(error, ClusterNotReadyError) and config.type == "slurm_ssh":
        advice = (
            "Try `ssh` with the same host, port and user, from the Airflow worker and as its user. Is the name "
            "right, is sshd up, does a firewall let the worker through?"
        )
    return Finding("connection", "error", str(error), advice)


def _advice_on_refusal(said: str) -> str:
    if "account" in said.lower():
        return (
            "Ask which account this user may charge (`sacctmgr show assoc user=USER format=account,partition,qos`), "
            "and set it as account in default_slurm_config; or let it be chosen for each run (slurm_account). Try "
            "one with --account"
        )
    return "Change what default_slurm_config asks for: these are SLURM's own words"
