"""The cluster program: what is done on a submit host of a cluster, ``PYTHON runner.pyz cluster``.

A request comes as JSON on stdin, one reply goes to stdout: ``{"ok": ...}`` or ``{"error": ...}``. Standard
library only, Python >= 3.9, like the rest of the runner.

Every request may be made at any time, more than once, by several at a time, and be cut off at any moment:
what it finds in the attempt's folder and in SLURM's own queue decides what is left to do.
"""
