"""Opens Airflow on the runs of the demo, until Ctrl-C.

    python ui.py

Airflow asks for no password, and only this machine reaches it.
"""

from __future__ import annotations

import time
from contextlib import suppress

from airflow_processes import COMMANDS
from airflow_start import running_airflow
from command import DemoError, only_one, run_command
from layout import DAG_ID, Layout


def ui() -> None:
    """
    Run Airflow, and say where it is to be seen.

    :raises DemoError: where there is no run to show, or a component of Airflow ends.
    """
    layout = Layout.from_environment()
    run = layout.last_run()
    if run is None:
        raise DemoError("there is no run to show yet: make one with `make demo`")
    with only_one(layout.home), running_airflow(layout, COMMANDS) as (api, components):
        print(f"Airflow is at {api.url}/dags/{DAG_ID}/runs/{run.run_id}\nStop it with Ctrl-C.", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                components.check()
                time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(run_command(ui))
