"""The report's file in the run folder, on the machine on which the units ran."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fractal_airflow.hooks.fractal import FractalHook

if TYPE_CHECKING:
    from fractal_airflow.provenance.facts import RunFacts

DEFAULT_TASK_ID = "report"


def write_report_file(run: RunFacts, report: str) -> str:
    """
    Write the report into the run folder of the step that ran last; return its path.

    :raises Exception: whatever resources raise.
    """
    from fractal_airflow.execution.run_folder import run_folder, safe_name

    step = run.steps_that_ran[-1]
    resource = FractalHook(step.resource).get_conn()
    folder = run_folder(resource.work_dir, run.dag_id, run.run_id, step.number, step.name).parent
    name = "report.md" if run.task_id == DEFAULT_TASK_ID else f"{safe_name(run.task_id)}.md"
    resource.write_files(str(folder), {name: report.encode("utf-8", "backslashreplace")})
    return str(PurePosixPath(folder, name))
