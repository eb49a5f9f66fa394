"""
Send the report of every run by mail: which images failed, with their errors and logs, and what to do.

A workflow's last task, `report`, fails where anything failed, and leaves its report as the XCom `report`. So
Airflow's own notifiers, hung on that task, can carry it: here by mail, through the connection `smtp_default`;
the one of another provider (Slack, Teams, Apprise, …) takes the same expression as its text.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from fractal_airflow import FractalDag, TaskPackage

DEMO = Path(os.environ.get("FRACTAL_DEMO_DIR", Path(__file__).parent.parent / ".demo"))
CORE = TaskPackage.from_environment(DEMO / "environments" / "core", "fractal-tasks-core")

# The report quotes errors and names of images: `e` keeps them from being read as HTML.
REPORT = "<pre>{{ (ti.xcom_pull(task_ids=ti.task_id, key='report') or 'There is no report: see the log.') | e }}</pre>"


def mail(what_happened: str) -> SmtpNotifier:
    """Return a notifier that mails the report."""
    return SmtpNotifier(
        to="facility@example.org",
        subject=f"{{{{ params.dataset }}}}: {what_happened}",
        html_content=REPORT,
    )


dag = FractalDag(
    "example_notify",
    workflow="nuclei.json",
    packages=CORE,
    dataset="demo_plate",
    images="pending",
    on_failure="continue",
    schedule=None,
    tags=["fractal", "example"],
    doc_md=__doc__,
)
dag.report.on_failure_callback = [mail("some images failed")]
dag.report.on_success_callback = [mail("all images are done")]  # leave this away to hear of failures only
