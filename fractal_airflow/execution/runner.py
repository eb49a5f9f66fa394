"""Run the units of one batch: ``PYTHON runner.py BATCH_DIR``.

One file, standard library only, Python >= 3.9: it is copied to where it runs. In BATCH_DIR it reads
``batch.json`` and the units' ``INDEX-args.json``, and writes ``INDEX-out.json``, ``INDEX-log.txt`` and, as
each unit ends, a line of ``results.jsonl``. Units with a good line there are not run again.

Three kinds of process: the guard (the one that was started), which outlives all others and leaves none
behind; the scheduler, which starts units and writes results; and, for a warm start, generations: processes
that have imported what the units will need, and fork one child for every unit.
"""

from __future__ import annotations

import collections
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import Any

EXIT_WRITING_FAILED = 74
EXIT_LOCKED = 75
EXIT_TERMINATED = 128 + signal.SIGTERM

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL; Airflow gives a worker about 5 s in all
SYNC_SECONDS = 0.5  # results are flushed to disk at least this often, and at the end
LOCK_SECONDS = 15.0  # how long a former runner of this folder may take to be gone
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 4000

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


# ---------------------------------------------------------------------------------------------- processes
def _load_prctl() -> Any:
    """Return Linux's ``prctl``; without it (macOS) a lost parent is noticed by asking for its id."""
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda *arguments: -1


def die_with_parent(prctl: Any, parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent is gone."""
    prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        os.kill(os.getpid(), number)


def descendants(pid: int) -> list[int]:
    """Return all processes below a process, from ``/proc``."""
    children = collections.defaultdict(list)
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command name is in brackets, and may hold anything.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != b"Z":
                children[int(parent)].append(int(name))
    found = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_descendants(grace_seconds: float) -> None:
    """End every process below this one: SIGTERM, and SIGKILL after the grace.

    What its own parent leaves behind comes to the nearest subreaper, so looking again finds it.
    """
    deadline = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while True:
        reap_all()
        below = descendants(os.getpid())
        if not below:
            return
        late = time.monotonic() >= deadline
        for pid in below:
            if late or pid not in asked:
                send_signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked.update(below)
        time.sleep(0.01)


def send_signal(pid: int, number: int) -> None:
    """Send a signal; a process or group (negative) that is gone is no error."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def reap_all() -> None:
    """Take the exit codes of all ended children that nobody asks for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class Signals:
    """Signals as bytes of a pipe, so that one loop waits for them along with everything else."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    def wait(self, seconds: float) -> bytes:
        select.select([self.fd], [], [], seconds)
        return self.read()

    def forget(self) -> None:
        """In a child: give the signals their usual meaning back."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self.fd)
        os.close(self._write_fd)


def is_ending(numbers: bytes) -> bool:
    """Tell whether a signal that asks for the end is among those that came."""
    return any(number != signal.SIGCHLD for number in numbers)


# ------------------------------------------------------------------------------------------------ results
def read_results(path: str) -> dict[int, dict[str, Any]]:
    """Return the last line of each unit; a torn line, from a crash, counts as not there."""
    results = {}
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return {}
    with file:
        for line in file:
            try:
                result = json.loads(line)
                results[int(result["index"])] = result
            except (ValueError, TypeError, KeyError):
                continue
    return results


class Results:
    """The results file, to which lines are appended."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._write(b"\n")  # after a torn line
        self._synced_at = time.monotonic()

    def add(self, result: dict[str, Any]) -> None:
        """Write a line. The kernel has it at once; the disk has it soon."""
        self._write(json.dumps(result).encode() + b"\n")
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


def read_output(path: str) -> dict[str, Any]:
    """Return the part of a result that the out file gives: its content, or why it is none."""
    try:
        with open(path, "rb") as file:
            output = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"kind": "output", "error": f"the output file cannot be read: {error}"}
    except (ValueError, RecursionError) as error:
        return {"kind": "output", "error": f"the output file {path} is not JSON: {error}"}
    return {} if output is None else {"output": output}


def log_tail(path: str, start: int = 0) -> str:
    """Return the last lines of a log file, from the place where a unit's own try begins."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(start, size - LOG_TAIL_BYTES)
            file.seek(begin)
            lines = file.read(LOG_TAIL_BYTES).decode("utf-8", "replace").rstrip().splitlines()
    except OSError:
        return ""
    if begin > start:
        lines = lines[1:] or lines  # the first one is cut
    return "\n".join(lines[-LOG_TAIL_LINES:])


# ------------------------------------------------------------------------------------------ starting units
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

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def arguments(self, index: int) -> list[str]:
        """Return the command line of a unit."""
        files = ["--args-json", self.path(f"{index}-args.json"), "--out-json", self.path(f"{index}-out.json")]
        return [*self.command, *files]

    def open_log(self, index: int, note: str = "") -> tuple[int, int]:
        """Open a unit's log for one more try; return it and the place where the try begins."""
        fd = os.open(self.path(f"{index}-log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        os.write(fd, f"=== {now} {os.uname().nodename}{note}: {self.arguments(index)}\n".encode())
        return fd, os.lseek(fd, 0, os.SEEK_END)

    def remove_output(self, index: int) -> None:
        """Real tasks refuse to start when their out file is there."""
        try:
            os.unlink(self.path(f"{index}-out.json"))
        except FileNotFoundError:
            pass


class StartError(Exception):
    """A unit's command cannot be started."""


def spawn(prctl: Any, signals: Signals, argv: list[str], folder: str, log_fd: int) -> int:
    """Start a unit as a process of its own and return its id.

    :raises StartError: if the command does not exist or cannot be executed.
    """
    program = find_program(argv[0])
    parent = os.getpid()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become_unit(prctl, signals, parent, folder, log_fd)
            os.execv(program, argv)
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) else 0
            os.write(error_write, f"{number} {error}".encode())
        os._exit(127)
    os.close(error_write)
    with os.fdopen(error_read, "rb") as file:
        problem = file.read().decode()
    if problem:
        os.waitpid(pid, 0)
        raise StartError(explain_exec_error(argv[0], *problem.split(" ", 1)))
    return pid


def become_unit(prctl: Any, signals: Signals, parent: int, folder: str, log_fd: int) -> None:
    """In a child: a session of its own, no input, its output in its log, and an end with its parent."""
    os.setsid()
    signals.forget()
    die_with_parent(prctl, parent, signal.SIGKILL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.chdir(folder)


def find_program(name: str) -> str:
    """Return the path of a command.

    :raises StartError: if there is none, or it cannot be executed.
    """
    path = shutil.which(name)
    if path:
        return path
    if os.path.isdir(name):
        raise StartError(f"command {name!r} is a folder, not a program")
    if os.path.exists(name) and os.sep in name:
        raise StartError(f"command {name!r} is not executable: give it execute permission (chmod +x)")
    where = "does not exist" if os.sep in name else "is not found in PATH"
    raise StartError(f"command {name!r} {where}: is its environment installed on {os.uname().nodename}?")


def explain_exec_error(name: str, number: str, message: str) -> str:
    """Say why a file that is there and executable did not start."""
    if int(number) == errno.ENOENT:
        return f"command {name!r} cannot be started: the interpreter that its first line names does not exist"
    if int(number) == errno.ENOEXEC:
        return f"command {name!r} cannot be started: it is neither a program nor a script with a '#!' line"
    return f"command {name!r} cannot be started: {message}"


# ---------------------------------------------------------------------------------------------- scheduling
class Unit:
    """A unit that runs: how it was started, and where its log begins."""

    def __init__(self, index: int, log_start: int) -> None:
        self.index = index
        self.log_start = log_start
        self.started_at = time.time()
        self._clock = time.monotonic()

    def measures(self, usage: Any) -> dict[str, Any]:
        # Linux counts resident memory in KiB, macOS in bytes.
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return {
            "seconds": round(time.monotonic() - self._clock, 4),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 4),
            "max_rss_mb": round(usage.ru_maxrss / unit, 1),
            "started_at": round(self.started_at, 3),
        }


class Scheduler:
    """Keeps ``parallel`` units going until each has a result."""

    def __init__(self, batch: Batch, prctl: Any) -> None:
        self.batch = batch
        self.prctl = prctl
        self.signals = Signals()
        self.host = os.uname().nodename
        path = batch.path("results.jsonl")
        former = read_results(path)
        todo = (index for index in range(batch.count) if former.get(index, {}).get("status") != "done")
        self.pending = collections.deque(todo)
        self.running: dict[int, Unit] = {}
        self.results = Results(path)

    def run(self) -> int:
        while self.pending or self.running:
            while self.pending and len(self.running) < self.batch.parallel:
                self.start(self.pending.popleft())
            if self.running and is_ending(self.signals.wait(1.0)):
                return EXIT_TERMINATED
            self.take_ended()
        self.results.sync()
        return 0

    def start(self, index: int) -> None:
        try:
            self.batch.remove_output(index)
            log_fd, log_start = self.batch.open_log(index)
            try:
                unit = Unit(index, log_start)
                argv = self.batch.arguments(index)
                pid = spawn(self.prctl, self.signals, argv, self.batch.folder, log_fd)
            finally:
                os.close(log_fd)
        except StartError as error:
            self.add_result(index, {"kind": "job", "error": str(error)})
        except OSError as error:
            self.add_result(index, {"kind": "job", "error": f"the unit cannot be started: {error}"})
        else:
            self.running[pid] = unit

    def take_ended(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            unit = self.running.pop(pid, None)
            if unit is not None:  # else a process that a unit left behind
                send_signal(-pid, signal.SIGTERM)  # what the unit left running in the background
                self.ended(unit, status, unit.measures(usage))

    def ended(self, unit: Unit, status: int, measures: dict[str, Any]) -> None:
        result: dict[str, Any]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        if code == 0:
            result = {"exit_code": 0, **read_output(self.batch.path(f"{unit.index}-out.json"))}
        elif code is not None:
            result = {"exit_code": code, "kind": "task", "error": f"the task ended with exit code {code}"}
        else:
            number = os.WTERMSIG(status)
            name = signal_name(number)
            result = {"signal": name, "kind": "job", "error": f"killed by {name} on {self.host}"}
            if number == signal.SIGKILL:
                result["error"] += " (out of memory, or killed by someone)"
        if "error" in result:
            result["log_tail"] = log_tail(self.batch.path(f"{unit.index}-log.txt"), unit.log_start)
        self.add_result(unit.index, {**result, **measures})

    def add_result(self, index: int, result: dict[str, Any]) -> None:
        status = "failed" if "error" in result else "done"
        self.results.add({"index": index, "status": status, "host": self.host, **result})


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ------------------------------------------------------------------------------------------------ the guard
def guard(scheduler_pid: int, signals: Signals, parent: int | None) -> int:
    """Wait for the scheduler, pass on signals that ask for the end, and leave no process behind."""
    while True:
        asked = is_ending(signals.wait(1.0)) or (parent is not None and os.getppid() != parent)
        pid, status = os.waitpid(scheduler_pid, os.WNOHANG)
        if pid:
            end_descendants(GRACE_SECONDS if os.WIFEXITED(status) else 0)
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if asked:
            end_descendants(GRACE_SECONDS)
            return EXIT_TERMINATED


def schedule(batch: Batch, prctl: Any, guard_pid: int) -> int:
    """Be the scheduler."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    scheduler = Scheduler(batch, prctl)
    die_with_parent(prctl, guard_pid, signal.SIGTERM)
    try:
        return scheduler.run()
    except OSError as error:
        print(f"results of {batch.folder} cannot be written: {error}", file=sys.stderr, flush=True)
        return EXIT_WRITING_FAILED
    finally:
        end_descendants(GRACE_SECONDS)


def lock(batch: Batch) -> bool:
    """Wait until no other runner works in the folder; a killed one needs a moment to be gone."""
    fd = os.open(batch.path("runner.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        except OSError:
            return True  # a file system without locks
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """``runner.py BATCH_DIR [PARENT_PID]``: with a parent's id, the runner ends when that process does."""
    prctl = _load_prctl()
    parent = int(arguments[1]) if len(arguments) > 1 else None
    if parent is not None:
        die_with_parent(prctl, parent, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        batch = Batch(arguments[0])
        if not lock(batch):
            print(f"another runner works in {batch.folder}", file=sys.stderr)
            return EXIT_LOCKED
    except OSError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return EXIT_WRITING_FAILED
    signals = Signals()
    guard_pid = os.getpid()
    pid = os.fork()
    if pid:
        return guard(pid, signals, parent)
    code = 1
    try:
        signals.forget()
        code = schedule(batch, prctl, guard_pid)
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
