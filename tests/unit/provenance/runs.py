"""Runs to report on, in tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fractal_airflow.provenance.facts import FailedUnit, RunFacts, StepFacts

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LOG = "/runs/plate/monday/01_Segment/0000-0123456789ab/1/2-log.txt"
ERROR = f"the task ended with exit code 1\nLast lines of {LOG}:\nTraceback\nValueError: out of focus"
LINK = "http://airflow/dags/plate/runs/monday/tasks/1_segment.run/mapped/0?try_number=1"


def a_step(index: int, name: str, **values: Any) -> StepFacts:
    """A step that was done, but for what is given."""
    known: dict[str, Any] = {
        "task_name": name,
        "task_key": f"fake-tasks/{name}",
        "package": "fake-tasks",
        "version": "1.0",
        "type": "parallel",
        "end": "done",
        "arguments": {"parallel": {"channel": "DAPI"}},
        "counts": {"done": 3},
        "written": {"made": 0, "edited": 3, "removed": 0},
        "started_at": START,
        "ended_at": START + timedelta(seconds=12.34),
        **values,
    }
    return StepFacts(index=index, number=index, name=name, **known)


def a_run(*steps: StepFacts, **values: Any) -> RunFacts:
    """A run of these steps."""
    known: dict[str, Any] = {
        "dag_id": "plate",
        "run_id": "monday",
        "task_id": "report",
        "workflow_name": "Count nuclei",
        "workflow_description": None,
        "dataset": "my plate",
        "zarr_dir": "/data/zarr",
        "versions": (1, 4),
        "software": {"fractal-airflow": "0.3.0", "apache-airflow": "3.3.2"},
        "reported_at": START + timedelta(minutes=1),
        **values,
    }
    return RunFacts(steps=steps, **known)


def of_every_kind() -> RunFacts:
    """A run with steps that ended in every way that there is."""
    url = "/data/zarr/plate.zarr/B/03/0"
    return a_run(
        a_step(
            0,
            "Convert",
            type="converter_compound",
            arguments={"non_parallel": {"plates": ["a", "b"], "ünit": None}, "parallel": {"scale": 0.5}},
            counts={"done": 1},
            written={"made": 3, "edited": 0, "removed": 0},
        ),
        a_step(
            1,
            "Segment <all>",
            end="failed",
            counts={"done": 2, "failed": 1},
            written={"made": 0, "edited": 2, "removed": 1},
            failed=[FailedUnit([url], ERROR, LOG, LINK)],
            ended_at=START + timedelta(minutes=61),
        ),
        a_step(
            2,
            "Measure",
            end="failed",
            type="non_parallel",
            arguments={"non_parallel": {}},
            counts={"failed": 2},
            written={},
            failed=[FailedUnit([url, f"{url}_mip"], "killed by SIGKILL (log: /runs/3-log.txt)")],
            ended_at=START + timedelta(seconds=75),
        ),
        a_step(3, "Merge tables", end="skipped", arguments=None, counts={}, written={}, ended_at=None),
        a_step(4, "Report", end="left out", arguments=None, counts={}, written={}, ended_at=None),
        a_step(5, "Late", end="not reached", arguments=None, counts={}, written={}, ended_at=None),
        a_step(
            6,
            "Conflict",
            end="failed",
            counts={"failed": 3},
            written={},
            error="Dataset 'my plate': run 'tuesday' of 'other' has written 1 image\nClear the step's select task.",
            error_link="http://airflow/dags/plate/runs/monday/tasks/6_conflict.merge",
        ),
        workflow_description="Counts *nuclei*",
        parameters={"type_filters": {"is_3D": True}, "images": "all"},
        agent="ada",
    )
