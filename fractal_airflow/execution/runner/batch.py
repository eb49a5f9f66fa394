"""A batch's folder, and the files of its units in there."""

from __future__ import annotations

import contextlib
import json
import os
import time


class Batch:
    """A batch's folder and what it asks for."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        with open(self.path("batch.json"), encoding="utf-8") as file:
            data = json.load(file)
        self.command: list[str] = data["command"]
        self.count: int = data["count"]
        self.parallel: int = data["parallel"]
        self.warm_start: bool = data["warm_start"]
        self.gpus: int = data.get("gpus", 0)  # that the job has
        self.mem_mb: float | None = data.get("mem_mb")  # that each unit may use

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.folder, name)

    def log_path(self, index: int) -> str:
        """Return the path of a unit's log."""
        return self.path(f"{index}-log.txt")

    def output_path(self, index: int) -> str:
        """Return the path of a unit's output."""
        return self.path(f"{index}-out.json")

    def arguments(self, index: int) -> list[str]:
        """Return the command line of a unit."""
        args = self.path(f"{index}-args.json")
        return [*self.command, "--args-json", args, "--out-json", self.output_path(index)]

    def prepare(self, index: int) -> tuple[int, int]:
        """Make ready for one more try of a unit; return its open log and the place where the try begins.

        Real tasks refuse to start when their output is there already.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.output_path(index))
        fd = os.open(self.log_path(index), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        os.write(fd, f"=== {now} {os.uname().nodename}: {self.arguments(index)}\n".encode())
        return fd, os.lseek(fd, 0, os.SEEK_END)
