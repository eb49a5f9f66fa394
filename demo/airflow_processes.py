"""Starts Airflow's components as child processes, and stops them with all that they started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from airflow_home import AirflowHome
from command import INTERRUPTIONS, DemoError

COMMANDS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),  # the API server reads the logs from this disk
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
GRACE_S = 5.0
LOG_TAIL_LINES = 15
PR_SET_PDEATHSIG = 1


class Components:
    """The running components of one Airflow, each the leader of a session of its own."""

    def __init__(self, home: AirflowHome) -> None:
        self.home = home
        self.started_at = datetime.now(UTC)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a component, which writes to its log file."""
        log = self.home.component_log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *COMMANDS[name]],
                env=self.home.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def check(self) -> None:
        """
        Check that all components run.

        :raises DemoError: where one has ended.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = self.home.component_log(name)
                ended = f"Airflow's {name} ended with exit code {process.returncode}"
                raise DemoError(f"{ended}.\n{log_tail(log)}\nIts log: {log}")

    def stop(self) -> None:
        """Stop all components and their children: politely first, and after a while for good."""
        with _uninterrupted():
            deadline = time.monotonic() + GRACE_S
            signal_sessions(self._sessions(), signal.SIGTERM)
            while session_members(self._sessions()) and time.monotonic() < deadline:
                self._reap()
                time.sleep(0.05)
            signal_sessions(self._sessions(), signal.SIGKILL)
            for process in self.processes.values():
                process.wait()

    def _sessions(self) -> set[int]:
        return {process.pid for process in self.processes.values()}

    def _reap(self) -> None:
        for process in self.processes.values():
            process.poll()


@contextmanager
def running_components(home: AirflowHome, names: Iterable[str]) -> Iterator[Components]:
    """Run components of Airflow until the block ends, however it ends."""
    components = Components(home)
    try:
        for name in names:
            components.start(name)
        yield components
    finally:
        components.stop()


def migrate_database(home: AirflowHome) -> None:
    """
    Make Airflow's metadata database, or bring it up to date, where this version of Airflow has not done so.

    :raises DemoError: where that fails.
    """
    stamp = home.folder / "migrated-to.txt"
    airflow = version("apache-airflow")
    if stamp.is_file() and stamp.read_text() == airflow:
        return
    log = home.component_log("db-migrate")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    with log.open("wb") as output:
        ended = subprocess.run(
            command, env=home.environment(), stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if ended.returncode:
        raise DemoError(f"Airflow's database could not be made.\n{log_tail(log)}\nThe log: {log}")
    stamp.write_text(airflow)


def session_members(sessions: set[int]) -> list[int]:
    """Return the processes of sessions, also those whose parents have ended."""
    return [pid for pid in _all_processes() if _session(pid) in sessions]


def signal_sessions(sessions: set[int], signal_number: signal.Signals) -> None:
    """Send a signal to every process of sessions."""
    for pid in session_members(sessions):
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            continue


def log_tail(log: Path) -> str:
    """Return the last lines of a log, or say that there is none."""
    if not log.is_file():
        return f"There is no log {log}"
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no impatient second Ctrl-C keep the block from its end."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Ask the kernel for a SIGTERM to this process when its parent ends, even if that is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
