"""Tests that import Airflow never touch the user's own: neither its home folder nor its settings."""

from __future__ import annotations

import os
import signal
import tempfile

_home = tempfile.TemporaryDirectory(prefix="fractal-tests-airflow-")

for _name in [name for name in os.environ if "AIRFLOW" in name]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = _home.name
os.environ["_AIRFLOW__AS_LIBRARY"] = "True"  # no database and no log folder in this process

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
