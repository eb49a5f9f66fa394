"""A SLURM that is one file: ``sbatch``, ``squeue``, ``scancel`` and ``sacct``, which do as a test wants.

As a program it is one of these commands, by its first argument; as a module it is the test's side.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo")
SQUEUE_LINE = "{id}|{state}|{reason}|{exit_code}|{nodes}|{restarts}|{time}|{limit}|{tres}|{name}"
SACCT_LINE = "{id}|{state}|{exit}|{nodes}|12|01:00:00|1000M|2||{reason}"
NEW_JOB = {
    "state": "PENDING", "reason": "Resources", "exit_code": 0, "nodes": "", "restarts": 0, "time": "0:00",
    "limit": "1:00:00", "tres": "cpu=2,mem=1000M,node=1,billing=2",
}  # fmt: skip


class FakeSlurm:
    """The test's side.

    :param folder: where the commands and their state are made.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._state = folder / "state.json"
        self._state.write_text(json.dumps({"jobs": {}, "accounted": {}, "calls": [], "says": {}}))
        for name in COMMANDS:
            self.add_command(name)

    def add_command(self, name: str) -> None:
        path = self.bin / name
        call = f'exec {sys.executable} -I -S "{__file__}" {name} "{self._state}" "$@"'
        path.write_text(f"#!/bin/sh\n{call}\n")
        path.chmod(0o755)

    def remove_command(self, name: str) -> None:
        (self.bin / name).unlink()

    def say(self, command: str, *, times: int | None = None, **answer: Any) -> None:
        """Have a command do something else: ``code``, ``out``, ``err``; ``acts`` first; ``sleep`` before all."""
        with changing(self._state) as state:
            state["says"][command] = {"times": times, **answer}

    def set(self, job_id: str, **fields: Any) -> None:
        with changing(self._state) as state:
            state["jobs"][job_id].update(fields)

    def add(self, job_id: str, **fields: Any) -> None:
        with changing(self._state) as state:
            state["jobs"][job_id] = {**NEW_JOB, "id": job_id, **fields}

    def forget(self, job_id: str) -> None:
        """Have the controller forget a job, as it does some minutes after the job's end."""
        with changing(self._state) as state:
            state["accounted"][job_id] = state["jobs"].pop(job_id)

    def calls(self, command: str) -> list[list[str]]:
        with changing(self._state) as state:
            return [arguments for name, *arguments in state["calls"] if name == command]

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        with changing(self._state) as state:
            return dict(state["jobs"])

    @property
    def live(self) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job["state"] in ("PENDING", "RUNNING")]


@contextmanager
def changing(path: Path) -> Iterator[Any]:
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.load(file)
        yield state
        file.seek(0)
        file.truncate()
        json.dump(state, file)


def main(command: str, path: str, *arguments: str) -> int:
    with changing(Path(path)) as state:
        state["calls"].append([command, *arguments])
        answer = state["says"].get(command)
        if answer and answer["times"] is not None:
            answer["times"] -= 1
            if answer["times"] == 0:
                del state["says"][command]
    answer = answer or {}
    time.sleep(answer.get("sleep", 0))
    if answer.get("acts") or not {"code", "out", "err"} & {*answer}:
        with changing(Path(path)) as state:
            ACTIONS[command](state, arguments)
    sys.stdout.write(answer.get("out", ""))
    sys.stderr.write(answer.get("err", ""))
    return int(answer.get("code", 0))


def sbatch(state: Any, arguments: tuple[str, ...]) -> None:
    job_id = str(max([100, *map(int, state["jobs"]), *map(int, state["accounted"])]) + 1)
    (name,) = (text[len("--job-name=") :] for text in arguments if text.startswith("--job-name="))
    assert Path(arguments[-1]).exists()
    state["jobs"][job_id] = {**NEW_JOB, "id": job_id, "name": name, "folder": str(Path.cwd())}
    print(job_id)


def squeue(state: Any, arguments: tuple[str, ...]) -> None:
    for job in state["jobs"].values():
        print(SQUEUE_LINE.format(**job))


def scancel(state: Any, arguments: tuple[str, ...]) -> None:
    for job_id in arguments:
        if job_id in state["jobs"] and not state["jobs"][job_id].get("stubborn"):
            state["jobs"][job_id]["state"] = "CANCELLED"


def sacct(state: Any, arguments: tuple[str, ...]) -> None:
    for job in state["accounted"].values():
        print(SACCT_LINE.format(**{**job, "exit": "0:0"}))


def nothing(state: Any, arguments: tuple[str, ...]) -> None:
    pass


ACTIONS = {
    "sbatch": sbatch, "squeue": squeue, "scancel": scancel, "sacct": sacct, "scontrol": nothing, "sinfo": nothing
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
