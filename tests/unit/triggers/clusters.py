"""A cluster that answers at once, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fractal_airflow.execution.slurm.messages import Collected, JobRecord, JobStatus, PollItem
from fractal_airflow.triggers.watcher import Link

ENDED = JobStatus(state="COMPLETED", source="squeue", exit=0, done=1)
RUNNING = JobStatus(state="RUNNING", source="squeue", nodes="n1")
WAITING = JobStatus(state="PENDING", source="squeue", reason="Resources")


class FakeCluster:
    """Stands in for an ``AsyncCluster``; a job without a state of its own is RUNNING."""

    def __init__(self) -> None:
        self.polls: list[list[str]] = []
        self.states: dict[str, JobStatus] = {}
        self.collected: list[tuple[str, int, str | None]] = []
        self.cancelled: list[tuple[Mapping[str, Any], str]] = []
        self.closed = 0
        self.links = 0
        self.failures: list[Exception] = []
        self.results: list[dict[str, Any]] = [{"index": 0, "status": "done", "output": None}]

    async def link(self) -> Link:
        self.links += 1
        return Link(self, 0.02)  # type: ignore[arg-type]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def poll(self, items: Sequence[PollItem]) -> dict[str, JobStatus]:
        self.polls.append([item.id for item in items])
        await asyncio.sleep(0)
        self._fail()
        return {item.id: self.states.get(item.id, RUNNING) for item in items}

    async def collect(self, folder: str, count: int, job_id: str | None, *, most_bytes: int) -> Collected:
        self._fail()
        if len(json.dumps(self.results)) > most_bytes:
            return Collected(too_large=True)
        self.collected.append((folder, count, job_id))
        return Collected(
            results=self.results, job=JobRecord(id=job_id or "", state="COMPLETED"), exit=0, taken=True
        )

    async def cancel(self, jobs: Sequence[Mapping[str, Any]], *, by: str) -> list[str]:
        self._fail()
        self.cancelled += [(job, by) for job in jobs]
        return [job["id"] for job in jobs if "id" in job]

    async def close(self) -> None:
        self.closed += 1
