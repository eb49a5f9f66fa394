"""Asking the cluster program, in this process or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fractal_airflow.execution.archive import write_runner
from fractal_airflow.execution.runner.cluster.program import answer

SCRIPT = "#!/bin/bash\ntrue\n"


class Failed(Exception):  # noqa: N818
    """The program replied with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error['message']}")
        self.error = error


class Program:
    """The program on a cluster with one work folder."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.step = work_dir / "dag" / "run" / "01_step"
        self.batch = self.step / "0000-0123456789ab"

    def ask(self, do: str, **request: Any) -> Any:
        reply = json.loads(json.dumps(answer(json.dumps({"do": do, **request}).encode())))
        if "error" in reply:
            raise Failed(reply["error"])
        return reply["ok"]

    def submit(self, *, units: int = 2, generation: str = "first", **more: Any) -> Any:
        return self.ask("submit", **self.submission(units=units, generation=generation, **more))

    def submission(self, *, units: int = 2, generation: str = "first", **more: Any) -> dict[str, Any]:
        batch = {
            "version": 1,
            "command": ["task"],
            "count": units,
            "parallel": 1,
            "warm_start": False,
            "gpus": 0,
        }
        return {
            "batch_folder": str(self.batch),
            "generation": generation,
            "batch": batch,
            "units": [{"zarr_url": f"/data/{index}"} for index in range(units)],
            "script": SCRIPT,
            "name_prefix": "dag.step B/03 … (2)",
            **more,
        }

    def start(self, **request: Any) -> subprocess.Popen[bytes]:
        """Ask in a process of its own; its reply is on its stdout."""
        self.work_dir.mkdir(exist_ok=True)
        command = [sys.executable, "-I", "-S", str(write_runner(self.work_dir)), "cluster"]
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.seek(0)
            return subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE)

    def finish(self, *done: int, failed: tuple[int, ...] = ()) -> None:
        """Write results as a runner does."""
        lines = [{"index": index, "status": "done", "output": {"n": index}} for index in done]
        lines += [{"index": index, "status": "failed", "kind": "task", "error": "no"} for index in failed]
        with (self.attempt / "results.jsonl").open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    @property
    def attempt(self) -> Path:
        return self.batch / "1"

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.attempt / "job.json").read_text())
        return record

    def change_record(self, **fields: Any) -> None:
        (self.attempt / "job.json").write_text(json.dumps({**self.record(), **fields}))
