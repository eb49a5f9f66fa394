"""Tests of the demo; its scripts import each other by their bare names, so that the tests do, too."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "demo"))
