"""Asking a cluster: the calls of the program that runs there, over whatever transport."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fractal_airflow.exceptions import ResourceError, WorkFolderError
from fractal_airflow.execution.archive import program_path, runner_archive
from fractal_airflow.execution.slurm.messages import (
    Collected,
    JobStatus,
    PollItem,
    Submitted,
    poll_request,
    read_collected,
    read_reply,
    read_statuses,
    read_submitted,
)
from fractal_airflow.execution.slurm.transport import AsyncTransport, Completed, Transport

__all__ = ["AsyncCluster", "Cluster", "JobStatus", "PollItem"]

COMMAND_DEADLINE_S = 60.0
"""How long a SLURM command may take; the program on the cluster keeps to it."""

# A call runs a few SLURM commands at most; reading and writing on a slow file system come on top.
_DEADLINES_S = {"submit": 5 * COMMAND_DEADLINE_S, "poll": 3 * COMMAND_DEADLINE_S}
_DEADLINE_S = 4 * COMMAND_DEADLINE_S
_CLEAN_DEADLINE_S = 3600.0
_SLOWEST_BYTES_A_SECOND = 100_000

_NO_PROGRAM = 66
_TOO_OLD = 67
_NO_PYTHON = 68
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 8, -1)))

# A Python that is too old, or cannot be started, has not read the request: the next one can. The last resort is
# the Python of a task that was run here: its path is kept beside the program for calls that know of no task.
_START = f"""\
program=$1 own=$2 known=${{1%/*}}/python
shift 2
[ -f "$program" ] || exit {_NO_PROGRAM}
ask() {{
  command -v "$1" > /dev/null 2>&1 || return 0
  "$1" "$program" cluster
  code=$?
  case $code in {_TOO_OLD}|126|127) ;; *) exit "$code" ;; esac
}}
for python do ask "$python"; done
if [ -n "$own" ]; then
  printf '%s\\n' "$own" > "$known.new" && mv -f "$known.new" "$known"
  ask "$own"
elif [ -r "$known" ]; then
  IFS= read -r python < "$known"
  ask "$python"
fi
exit {_NO_PYTHON}
"""


@dataclass(frozen=True)
class _Run:
    argv: list[str]
    stdin: bytes
    deadline_s: float


@dataclass(frozen=True)
class _Put:
    path: str
    content: bytes


_Conversation = Generator[_Run | _Put, Completed | None, dict[str, Any]]


def _conversation(asking: _Asking, request: Mapping[str, Any], own_python: str) -> _Conversation:
    """Say what is to be done, step by step, to have a request answered; return the reply."""
    where, work_dir, pythons = asking.where, asking.work_dir, asking.pythons
    program = program_path(work_dir)
    deadline_s = (
        _CLEAN_DEADLINE_S if request["do"] == "clean" else _DEADLINES_S.get(request["do"], _DEADLINE_S)
    )
    run = _Run(
        ["sh", "-c", _START, "sh", program, own_python, *pythons],
        json.dumps(request).encode() + b"\n",
        deadline_s,
    )
    done = yield run
    if done is not None and done.code == _NO_PROGRAM:
        yield _Put(program, runner_archive())
        done = yield run
    assert done is not None
    if done.code == _NO_PROGRAM:
        raise WorkFolderError(f"{where}: the file {program} is gone as soon as it is written.")
    if done.code == _NO_PYTHON:
        raise ResourceError(
            f"{where}: there is no Python >= 3.9 among {', '.join(pythons)}. Set `python` in the resource's "
            "connection to the path of one."
        )
    return read_reply(done, where)


class _Asking:
    """What both kinds of cluster share.

    :param where: the machine that is asked, for messages.
    :param work_dir: the resource's work folder, as the cluster sees it.
    :param python: the Python that runs the program there; without one, or where it cannot be started, the
        usual names are tried.
    """

    def __init__(self, where: str, work_dir: str, python: str | None) -> None:
        self.where = where
        self.work_dir = work_dir
        self.pythons = [*([python] if python else []), *_PYTHONS]


class Cluster(_Asking):
    """A cluster, asked from a process that waits for the answers.

    Every method raises ClusterNotReadyError where there is no answer for now, WorkFolderError where the work
    folder cannot be used, and ResourceError where the configuration is wrong.
    """

    def __init__(self, transport: Transport, work_dir: str, python: str | None = None) -> None:
        super().__init__(transport.where, work_dir, python)
        self._transport = transport

    def submit(self, request: Mapping[str, Any], *, own_python: str = "") -> Submitted:
        """Open an attempt and submit its job, or adopt the one that is there.

        :param own_python: the Python of the task, for a cluster that has no other.
        :raises SubmissionError: if SLURM refuses the job.
        """
        return read_submitted(self.ask({"do": "submit", **request}, own_python=own_python))

    def poll(self, items: Sequence[PollItem]) -> dict[str, JobStatus]:
        """Return how jobs are, by their ids."""
        return read_statuses(self.ask(poll_request(items)))

    def collect(self, folder: str, count: int, job_id: str | None) -> Collected:
        """Return what is known of a job's end; nothing is taken."""
        return read_collected(self.ask(_collect(folder, count, job_id)))

    def results(self, folder: str, count: int) -> list[dict[str, Any]]:
        """Return the last result line of each unit of an attempt that has one."""
        return list(self.ask({"do": "results", "folder": folder, "count": count})["results"])

    def cancel(self, jobs: Sequence[Mapping[str, Any]], *, by: str) -> list[str]:
        """Cancel jobs; return the ids of those that were there.

        :param jobs: each has its ``folder``, and its ``id``, its ``name`` or both; without them all jobs of
            the folder's attempts are meant, or those of a ``generation``.
        :param by: who wants it, and why.
        """
        return list(self.ask({"do": "cancel", "jobs": list(jobs), "by": by})["cancelled"])

    def settle(self, folder: str, *, reject: Mapping[int, str] | None = None, take: bool = False) -> None:
        """Turn results into failed ones, by the index of their units; or note that all were taken."""
        messages = {str(index): message for index, message in (reject or {}).items()}
        self.ask({"do": "settle", "folder": folder, "reject": messages, "take": take})

    def leftovers(self, folder: str, *, by: str) -> list[str]:
        """Cancel the jobs of all attempts below a step's folder; return their ids."""
        return list(self.ask({"do": "leftovers", "folder": folder, "by": by})["cancelled"])

    def ask(self, request: Mapping[str, Any], *, own_python: str = "") -> dict[str, Any]:
        """Have a request answered, whatever it is."""
        talk = _conversation(self, request, own_python)
        step = next(talk)
        while True:
            try:
                step = talk.send(self._do(step))
            except StopIteration as end:
                reply: dict[str, Any] = end.value
                return reply

    def _do(self, step: _Run | _Put) -> Completed | None:
        if isinstance(step, _Run):
            return self._transport.run(step.argv, stdin=step.stdin, deadline_s=step.deadline_s)
        self._transport.put(step.path, step.content)
        return None

    def put(self, path: str, content: bytes) -> None:
        """Write a file as a whole or not at all, and its folder if there is none."""
        self._transport.put(path, content, deadline_s=_DEADLINE_S + len(content) / _SLOWEST_BYTES_A_SECOND)

    def get(self, path: str) -> bytes | None:
        """Return a file; None where there is none."""
        try:
            return self._transport.get(path)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class AsyncCluster(_Asking):
    """A cluster, asked from an event loop; as :class:`Cluster`."""

    def __init__(self, transport: AsyncTransport, work_dir: str, python: str | None = None) -> None:
        super().__init__(transport.where, work_dir, python)
        self._transport = transport

    async def poll(self, items: Sequence[PollItem]) -> dict[str, JobStatus]:
        """Return how jobs are, by their ids."""
        return read_statuses(await self.ask(poll_request(items)))

    async def collect(self, folder: str, count: int, job_id: str | None, *, most_bytes: int) -> Collected:
        """Return what is known of a job's end, and take the results if they are complete.

        :param most_bytes: of results; where there are more, nothing is transferred or taken.
        """
        request = _collect(folder, count, job_id)
        return read_collected(await self.ask({**request, "take": True, "most_bytes": most_bytes}))

    async def cancel(self, jobs: Sequence[Mapping[str, Any]], *, by: str) -> list[str]:
        """Cancel jobs; return the ids of those that were there (see :meth:`Cluster.cancel`)."""
        return list((await self.ask({"do": "cancel", "jobs": list(jobs), "by": by}))["cancelled"])

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a request answered, whatever it is."""
        talk = _conversation(self, request, "")
        step = next(talk)
        while True:
            try:
                step = talk.send(await self._do(step))
            except StopIteration as end:
                reply: dict[str, Any] = end.value
                return reply

    async def _do(self, step: _Run | _Put) -> Completed | None:
        if isinstance(step, _Run):
            return await self._transport.run(step.argv, stdin=step.stdin, deadline_s=step.deadline_s)
        await self._transport.put(step.path, step.content)
        return None

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()


def _collect(folder: str, count: int, job_id: str | None) -> dict[str, Any]:
    return {"do": "collect", "folder": folder, "count": count, "job_id": job_id}
