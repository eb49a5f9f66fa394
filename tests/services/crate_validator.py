"""The validator of RO-Crates, in an environment of its own: it wants an older ``rich`` than the newest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import rocrate

from tests.demo import PROJECT  # first: it knows where the demo's modules are

PROGRAM = Path(__file__).with_name("crate_validation.py")
CONTEXT = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
PROFILE = "provenance-run-crate-0.5"
"""The strictest profile of runs: it takes in Workflow Run Crate, Process Run Crate and Workflow RO-Crate."""


def crate_issues(crate: Path, severity: str = "REQUIRED") -> list[str]:
    """Return what a crate's profile finds wrong with it, without any network."""
    python = _environment()
    command = [str(python), str(PROGRAM), str(crate), PROFILE, severity, str(CONTEXT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    issues: list[str] = json.loads(done.stdout.splitlines()[-1])
    return issues


def _environment() -> Path:
    """Return the validator's Python; its environment is made if it is missing."""
    from environments import PackageEnvironment, one_at_a_time

    validator = PackageEnvironment("crates", "roc-validator", "0.13.0")
    environments = PROJECT / "build" / "environments"
    with one_at_a_time(environments):
        if not validator.is_made(environments):
            validator.make(environments)
    return validator.python(environments)
