"""Units on this machine: a runner per batch, as many batches at once as there are slots."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fractal_airflow.exceptions import WorkFolderError
from fractal_airflow.execution import runner
from fractal_airflow.execution.archive import write_runner
from fractal_airflow.execution.batching import plan_batches
from fractal_airflow.execution.progress import ResultsFollower
from fractal_airflow.execution.resource import BatchCall, BatchEnd, JobsRunnerConfig, Resource
from fractal_airflow.execution.run_files import BatchFiles, batch_files, text_of
from fractal_airflow.execution.run_folder import Attempt, attempt_outcomes, open_attempt, writing
from fractal_airflow.execution.runner import reading
from fractal_airflow.execution.units import Outcome, Work

POLL_SECONDS = 0.5
SLOT_POLL_SECONDS = 0.2
CANCEL_SECONDS = runner.GRACE_SECONDS + 1.0

_KNOWN_CODES = (0, runner.EXIT_WRITING_FAILED, runner.EXIT_LOCKED, runner.EXIT_TERMINATED)

# Airflow's variables carry secrets (database URLs, keys) and handles of the supervised task process.
_AIRFLOW_VARIABLE = re.compile(r"_*AIRFLOW", re.IGNORECASE)


class LocalResource(Resource):
    """Runs batches on the machine of the Airflow worker."""

    type = "local"

    def __init__(self, work_dir: Path | str, config: JobsRunnerConfig | None = None) -> None:
        self.work_dir = Path(work_dir)
        self._config = config or JobsRunnerConfig()
        self._runner: subprocess.Popen[bytes] | None = None

    @property
    def slots(self) -> int:
        """How many batches run at once on this machine, of all DAGs together."""
        units = self._config.parallel_tasks_per_job or len(os.sched_getaffinity(0))
        return max(1, units // self._config.units_at_a_time)

    @property
    def units_at_a_time(self) -> int:
        """How many units a batch runs at a time; on this machine the configuration alone says."""
        return self._config.units_at_a_time

    def plan(
        self,
        n_units: int,
        meta: Mapping[str, Any],
        *,
        images_per_batch: int | None = None,
        unit_seconds: float | None = None,
        max_batches: int = 1024,
    ) -> list[int]:
        """Return the sizes of the batches for so many units (see :func:`plan_batches`)."""
        return plan_batches(
            n_units,
            slots=self.slots,
            images_per_batch=images_per_batch,
            max_batches=max_batches,
            unit_seconds=None if unit_seconds is None else unit_seconds / self.units_at_a_time,
        )

    def run(self, call: BatchCall, *, log: logging.Logger) -> BatchEnd:
        """Run the units that have no good result yet, and wait for them.

        :raises WorkFolderError: if the work folder cannot be written.
        """
        work = call.work(self.units_at_a_time)
        attempt = open_attempt(Path(call.folder), work, call.generation)
        log.info("%d units in %s", len(work.units), attempt.folder)
        return BatchEnd(str(attempt.folder), self.run_attempt(work, attempt, log=log))

    def run_attempt(self, work: Work, attempt: Attempt, *, log: logging.Logger) -> list[Outcome]:
        """Run the units of an open attempt; return the outcome of every unit, in order.

        :raises WorkFolderError: if the work folder cannot be written.
        """
        with self._slot(log) as slot_fd:
            follower = ResultsFollower(attempt, log)
            python = _interpreter(work)
            code, message = self._run_runner(python, attempt, slot_fd, follower)
            if code not in _KNOWN_CODES and python != sys.executable:
                # Perhaps that Python is too old for the runner, or broken: its units can say so themselves.
                log.warning("%s could not run the runner (exit code %d): %s", python, code, message)
                code, message = self._run_runner(sys.executable, attempt, slot_fd, follower)
            if code == runner.EXIT_WRITING_FAILED:
                raise WorkFolderError(
                    f"The work folder {attempt.folder} cannot be written: "
                    f"{message or _why_unwritable(attempt.folder)}. "
                    "Make room, or set another work_dir in the resource's connection."
                )
            if code == runner.EXIT_LOCKED:
                raise WorkFolderError(f"{message}: wait until it has ended, or end it.")
            follower.finish()
        if code:
            log.error("The runner of %s ended with code %d. %s", attempt.folder, code, message)
        return self.read_outcomes(str(attempt.folder), attempt.count)

    def _run_runner(
        self, python: str, attempt: Attempt, slot_fd: int, follower: ResultsFollower
    ) -> tuple[int, str]:
        try:
            program = write_runner(attempt.folder)
            errors = (attempt.folder / "runner-log.txt").open("w+b")
        except OSError as error:
            return runner.EXIT_WRITING_FAILED, str(error)
        with errors:
            self._runner = subprocess.Popen(
                [python, str(program), str(attempt.folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=unit_environment(os.environ),
                pass_fds=[slot_fd],  # a killed worker's slot is free when its runner is gone
                start_new_session=True,  # Ctrl-C in a terminal comes to us first
            )
            try:
                _follow(self._runner, follower)
            finally:
                self.cancel()
            errors.seek(0)
            message = errors.read().decode("utf-8", "replace").strip()
            return self._runner.returncode, message

    def cancel(self) -> None:
        """End the running batch, and every process that it started."""
        process = self._runner
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def read_outcomes(self, folder: str, count: int) -> list[Outcome]:
        """Return the outcomes that an attempt's folder holds, in the order of its units."""
        return attempt_outcomes(Path(folder), count)

    def reject(self, folder: str, messages: Mapping[int, str]) -> None:
        """Turn good results of an attempt into failed ones, so that a retry runs these units again."""
        for index, message in messages.items():
            Attempt(Path(folder), 0).reject(index, message)

    def take(self, folder: str) -> None:
        """Note that the complete results of an attempt were taken: only their own retry adopts it now."""
        Attempt(Path(folder), 0).take()

    def read_text(self, run: str, path: str, max_bytes: int) -> str:
        """Return a text file of a run: where it is longer, its end, below a line that says so."""
        reply = reading.read_text(str(self.work_dir), run, path, max_bytes)
        return text_of(reply, path, _here(), str(self.work_dir))

    def read_log(
        self, step_folder: str, index: int, unit: int, max_bytes: int, *, whole_list: bool
    ) -> str | None:
        """Return the log of one unit of the newest attempt of a batch; None where there is no attempt."""
        work_dir = str(self.work_dir)
        reply = reading.read_log(work_dir, step_folder, index, unit, max_bytes, whole_list=whole_list)
        return None if reply is None else text_of(reply, reply["path"], _here(), work_dir)

    def read_batch(self, step_folder: str, index: int, *, whole_list: bool) -> BatchFiles | None:
        """Return what the newest attempt of a batch has left so far; None where there is none."""
        return batch_files(reading.units_of(step_folder, index, whole_list=whole_list))

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files into a folder, which is made where it is missing; each is there as a whole or not at all."""
        with writing(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                part = Path(folder, f".{name}.{secrets.token_hex(4)}.part")
                try:
                    part.write_bytes(content)
                    part.replace(Path(folder, name))
                finally:
                    part.unlink(missing_ok=True)

    def read_file(self, path: str) -> bytes | None:
        """Return a file of any folder; None where there is none."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorkFolderError(f"{path} cannot be read: {error.strerror or error}") from error

    @contextmanager
    def _slot(self, log: logging.Logger) -> Iterator[int]:
        """Hold one of this machine's slots; wait for one if all are taken."""
        folder = self.work_dir / ".slots"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = [os.open(folder / f"{n}.lock", os.O_RDWR | os.O_CREAT, 0o666) for n in range(self.slots)]
        except OSError as error:
            raise WorkFolderError(
                f"The work folder {self.work_dir} cannot be written: {error.strerror}. Give this user the "
                "right to write there, or set another work_dir in the resource's connection."
            ) from error
        try:
            yield _wait_for_lock(files, log)
        finally:
            for fd in files:
                os.close(fd)


def _here() -> str:
    return f"on this machine ({os.uname().nodename})"


def _wait_for_lock(files: list[int], log: logging.Logger) -> int:
    waited_since = None
    while True:
        for fd in files:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if waited_since is not None:
                    log.info("Got a slot after %.0f s", time.monotonic() - waited_since)
                return fd
        if waited_since is None:
            waited_since = time.monotonic()
            log.info("Waiting for one of the %d slots of this machine (parallel_tasks_per_job)", len(files))
        time.sleep(SLOT_POLL_SECONDS)


def _follow(process: subprocess.Popen[bytes], follower: ResultsFollower) -> None:
    """Read results as they come, until the runner has ended."""
    pidfd = os.pidfd_open(process.pid)
    try:
        while not select.select([pidfd], [], [], POLL_SECONDS)[0]:
            follower.read()
        process.wait()
    finally:
        os.close(pidfd)


def _why_unwritable(folder: Path) -> str:
    """Find out why a folder cannot be written, where the runner's own log could not be written either."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(1 << 16))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return "the runner could not write its results"


def _interpreter(work: Work) -> str:
    """Return the Python that runs the runner: the units' own, so that they can start warm."""
    own = work.script_python if work.warm_start else ""
    return (own and shutil.which(own)) or sys.executable


def unit_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of units: the worker's, without what is Airflow's."""
    return {name: value for name, value in environment.items() if not _AIRFLOW_VARIABLE.match(name)}
