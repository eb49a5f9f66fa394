"""The runner: a program that runs the units of one batch, ``PYTHON runner.pyz BATCH_DIR [PARENT_PID]``.

Standard library only, Python >= 3.9. ``execution/archive.py`` packs this folder into one file, which is
copied to where it runs; in there the package is called ``_fractal_runner``, so that no module of a task can
be taken for one of its own.

Three kinds of process: the guard (the one that was started), which outlives all others and leaves none
behind; the scheduler, which starts units and writes results; and, for a warm start, generations: processes
that have imported what the units will need, and fork one child for every unit.
"""

from __future__ import annotations

import sys

# What Python had loaded by itself, before it looked into the archive (by runpy) and came here.
_names = list(sys.modules)
LOADED_BY_PYTHON = frozenset(_names[: _names.index("runpy")] if "runpy" in _names else _names)

EXIT_UNITS_FAILED = 70  # of a job: all units have ended, and some of them have failed
EXIT_WRITING_FAILED = 74
EXIT_LOCKED = 75
EXIT_TERMINATED = 128 + 15

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL; Airflow gives a worker about 5 s in all
