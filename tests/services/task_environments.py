"""The environments of real task packages; made by the demo's own set-up, and shared with it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class TaskEnvironment:
    """An environment with one task package."""

    folder: Path
    package: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def package_folder(self) -> Path:
        (folder,) = self.folder.glob(f"lib/python*/site-packages/{self.package}")
        return folder

    def command(self, executable: str) -> tuple[str, str]:
        """Return the command of one of the package's executables."""
        return (str(self.python), str(self.package_folder / executable))


def core_tasks() -> TaskEnvironment:
    """The environment of fractal-tasks-core; it is made if it is missing."""
    environments = Path(os.environ.get("FRACTAL_DEMO_DIR", PROJECT / ".demo")).resolve() / "environments"
    program = PROJECT / "demo" / "environments.py"
    subprocess.run([sys.executable, str(program), str(environments)], check=True)
    return TaskEnvironment(environments / "core", "fractal_tasks_core")
