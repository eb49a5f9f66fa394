"""Makes the environments of the demo's task packages with uv, where they are missing or of another version.

python environments.py FOLDER
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

PYTHON_VERSION = "3.11"
STAMP = "demo-package.txt"


@dataclass(frozen=True)
class PackageEnvironment:
    """The environment of one task package."""

    name: str
    package: str
    version: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    def folder(self, environments: Path) -> Path:
        return environments / self.name

    def python(self, environments: Path) -> Path:
        return self.folder(environments) / "bin" / "python"

    def is_made(self, environments: Path) -> bool:
        """Tell whether the environment is whole and of this version."""
        stamp = self.folder(environments) / STAMP
        return stamp.is_file() and stamp.read_text() == self._stamp() and self.python(environments).exists()

    def make(self, environments: Path) -> None:
        """Make the environment anew; the stamp comes last, so that an interrupted one is made again."""
        folder = self.folder(environments)
        shutil.rmtree(folder, ignore_errors=True)
        uv = find_uv()
        subprocess.run([uv, "venv", "--quiet", "--python", PYTHON_VERSION, folder], check=True)
        python = str(self.python(environments))
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, self.requirement], check=True)
        (folder / STAMP).write_text(self._stamp())

    def _stamp(self) -> str:
        return f"{self.requirement} on Python {PYTHON_VERSION}\n"


CORE = PackageEnvironment("core", "fractal-tasks-core", "2.1.0")
CONVERTERS = PackageEnvironment("uzh", "fractal-uzh-converters", "0.7.1")


def find_uv() -> str:
    """
    Return the uv command: the one that the variable UV names, or the one on the path.

    :raises FileNotFoundError: where there is none.
    """
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        raise FileNotFoundError("uv is missing: run `make demo`, which installs it, or `pip install uv`")
    return uv


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, waiting for whoever has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def make_environments(environments: Path) -> None:
    """Make both environments where they are missing."""
    with one_at_a_time(environments):
        for environment in (CONVERTERS, CORE):
            if not environment.is_made(environments):
                print(f"Making the environment of {environment.requirement} ...", flush=True)
                environment.make(environments)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the environments of the demo's task packages.")
    parser.add_argument("folder", type=Path, help="where the environments lie, each in a folder of its own")
    make_environments(parser.parse_args().folder.resolve())


if __name__ == "__main__":
    main()
