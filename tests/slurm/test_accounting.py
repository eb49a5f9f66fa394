"""A cluster with accounting: what the controller has forgotten, and accounts that do not exist."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fractal_airflow.exceptions import SubmissionError
from fractal_airflow.execution.resource import BatchCall, make_resource
from fractal_airflow.execution.slurm.messages import PollItem
from fractal_airflow.execution.slurm.resource import SlurmResource
from tests.services.slurm import SlurmCluster, SlurmTimes, running_slurm
from tests.unit.execution.batches import UNIT_TASK

LOG = logging.getLogger("batch")
FORGETTING_S = 180  # the controller looks once a minute for what to forget


@pytest.fixture(scope="module")
def accounted() -> Iterator[SlurmCluster]:
    """A cluster with slurmdbd, whose controller soon forgets jobs that have ended."""
    with running_slurm(times=SlurmTimes(min_job_age_s=2), accounting=True) as cluster:
        yield cluster


@pytest.fixture
def resource(accounted: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmResource:
    for name, value in accounted.environment.items():
        monkeypatch.setenv(name, value)
    made = make_resource({"type": "slurm", "work_dir": str(tmp_path)})
    assert isinstance(made, SlurmResource)
    return made


def call(resource: SlurmResource, unit: dict[str, str], account: str | None = None) -> BatchCall:
    folder = str(resource.work_dir / "dag" / "run" / "01_step" / "0000-0123456789ab")
    return BatchCall([unit], UNIT_TASK, folder, "first", {"mem": 300}, account=account)


def test_an_account_that_does_not_exist_is_a_refusal(resource: SlurmResource) -> None:
    with pytest.raises(SubmissionError, match=r"(?s)Invalid account.*The option that caused it: account"):
        resource.submit(call(resource, {}, account="nobody"), log=LOG)


def test_the_end_of_a_job_that_the_controller_has_forgotten_is_in_the_accounting(
    resource: SlurmResource, accounted: SlurmCluster
) -> None:
    submitted = resource.submit(call(resource, {"wait_for": "/never"}), log=LOG)
    assert submitted.job is not None
    job_id = int(submitted.job.id)
    accounted.wait("the job runs", lambda: accounted.processes(job_id))
    accounted.cancel(job_id)
    accounted.wait(
        "it is forgotten", lambda: job_id not in [job.id for job in accounted.queue()], timeout_s=FORGETTING_S
    )

    status = resource.cluster.poll([PollItem(submitted.job.id, submitted.folder)])[submitted.job.id]
    end = resource.finish(submitted, log=LOG)

    assert (status.state, status.source) == ("CANCELLED", "sacct")
    (outcome,) = end.outcomes
    assert outcome.error is not None
    assert outcome.error.kind == "cancelled"
    assert end.usage is not None
    assert end.usage["requested"]["mem_mb"] == 300
