"""The process in which ``airflow fractal run`` runs its plan: it minds the run's temporary folder.

It imports Airflow when the folder is sure to be removed: that takes a second, in which a user may stop it.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from pathlib import Path

from fractal_airflow.cli.stopping import STOP_SIGNALS, Stopped, listen_to_signals


def main(folder: Path) -> int:
    """
    Run the plan of a folder, then remove the folder.

    :returns: the exit code: 0 where every unit of every step succeeded.
    """
    # Importing Airflow and building its API makes a million objects that stay: looking through them again and
    # again takes a quarter of the time (it ends as the first task starts, see `progress`).
    gc.disable()
    try:
        listen_to_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        from fractal_airflow.cli.plan import run_plan

        return run_plan(folder)
    except Stopped as stopped:
        print(f"error: {stopped}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Airflow leaves threads, which Python would take seconds to get rid of; nothing is left to be done.
    os._exit(code)
