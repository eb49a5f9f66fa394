"""Run the units of one batch: ``PYTHON runner.py BATCH_DIR``.

One file, standard library only, Python >= 3.9: it is copied to where it runs. In BATCH_DIR it reads
``batch.json`` and the units' ``INDEX-args.json``, and writes ``INDEX-out.json``, ``INDEX-log.txt`` and, as
each unit ends, a line of ``results.jsonl``. Units with a good line there are not run again.

Three kinds of process: the guard (the one that was started), which outlives all others and leaves none
behind; the scheduler, which starts units and writes results; and, for a warm start, generations: processes
that have imported what the units will need, and fork one child for every unit.
"""

from __future__ import annotations

import sys

_LOADED_BY_PYTHON = frozenset(sys.modules)
_SAFE_PATH = getattr(sys.flags, "safe_path", False)
if __name__ == "__main__" and not _SAFE_PATH:
    del sys.path[0]  # the folder of this file: nothing is to be imported from there

import atexit
import collections
import contextlib
import errno
import fcntl
import gc
import io
import json
import os
import resource
import select
import signal
import threading
import time
import types
from collections.abc import Iterable
from typing import Any

EXIT_WRITING_FAILED = 74
EXIT_LOCKED = 75
EXIT_UNFIT = 3  # of a generation
EXIT_TERMINATED = 128 + signal.SIGTERM

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL; Airflow gives a worker about 5 s in all
KILL_SECONDS = 5.0  # after SIGKILL; what hangs in the kernel (a dead file server) cannot be waited for
SYNC_SECONDS = 0.5  # results are flushed to disk at least this often, and at the end
LOCK_SECONDS = 15.0  # how long a former runner of this folder may take to be gone
HOLD_SECONDS = 2.0  # how long units wait at least for the modules that the first one was seen to load
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

        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
        return prctl
    except (ImportError, OSError, AttributeError):
        return lambda *arguments: -1


def die_with_parent(prctl: Any, parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent is gone."""
    prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        os.kill(os.getpid(), number)


def parents() -> dict[int, int]:
    """Return the parent of every living process of this machine, from ``/proc``."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command name is in brackets, and may hold anything.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != b"Z":
                found[int(name)] = int(parent)
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below a process."""
    children = collections.defaultdict(list)
    for child, parent in parents().items():
        children[parent].append(child)
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
        late = time.monotonic() >= deadline
        if not below or time.monotonic() > deadline + KILL_SECONDS:
            return
        for pid in below:
            if late or pid not in asked:
                send_signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked.update(below)
        time.sleep(0.01)


def send_signal(pid: int, number: int) -> None:
    """Send a signal; a process or group (negative) that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def reap_all() -> None:
    """Take the exit codes of all ended children that nobody asks for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork() -> int:
    """Fork without Python's warning that threads do not come along: that has been looked at."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def open_fds() -> list[int]:
    """Return the open file descriptors of this process."""
    if os.path.isdir("/proc/self/fd"):
        return [int(name) for name in os.listdir("/proc/self/fd")]
    return list(range(256))


def close_fds(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Signals:
    """Signals as bytes of a pipe, so that one loop waits for them along with everything else."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whatever the parent had blocked
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


class ResultsError(Exception):
    """The results file cannot be written."""


class Results:
    """The results file, to which lines are appended.

    :raises ResultsError: if it cannot be written.
    """

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._fd).st_size
            torn = size and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise ResultsError(str(error)) from error
        if torn:
            self._write(b"\n")
        self._synced_at = time.monotonic()

    def add(self, result: dict[str, Any]) -> None:
        """Write a line. The kernel has it at once; the disk has it soon."""
        self._write(json.dumps(result).encode() + b"\n")
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise ResultsError(str(error)) from error
        self._synced_at = time.monotonic()

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise ResultsError(str(error)) from error


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

    modules_file = "modules.json"

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
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(f"{index}-out.json"))


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
    folders = [""] if os.sep in name else os.get_exec_path()
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
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


# ---------------------------------------------------------------------------------------------- warm start
def script_of(command: list[str]) -> str | None:
    """Return the script of ``PYTHON SCRIPT.py ...`` if PYTHON is the one that runs this program."""
    if len(command) < 2 or not command[1].endswith(".py") or not os.path.isfile(command[1]):
        return None
    try:
        program = os.path.abspath(find_program(command[0]))
        mine = os.path.abspath(sys.executable)
        same = os.path.dirname(program) == os.path.dirname(mine) and os.path.samefile(program, mine)
    except (OSError, StartError):
        return None
    return command[1] if same else None


class UnfitError(Exception):
    """Units cannot be forked from this process; the message says why."""


class Generation:
    """A process that has imported what units need, and forks them.

    The first generation imports what the script itself imports. The second is forked from it, and also
    imports what the first unit was seen to load on its way.

    :param channel: file descriptors: commands come on the first, reports go to the second.
    """

    def __init__(
        self, batch: Batch, prctl: Any, channel: tuple[int, ...], successor_channel: tuple[int, ...]
    ) -> None:
        self.batch = batch
        self.prctl = prctl
        self.channel = channel
        self.successor_channel = successor_channel
        self.signals = Signals()
        self.units: dict[int, Unit] = {}
        self.successor = 0

    def import_script(self, script: str) -> None:
        """Run the script under another name, so that it imports its modules and defines, but does nothing.

        :raises UnfitError: if that fails, or leaves threads running.
        """
        gc.disable()
        sys.argv = [script]
        self.script = script
        folder = os.path.dirname(os.path.realpath(script))
        if not _SAFE_PATH:
            sys.path.insert(0, folder)
        hidden = hidden_modules(folder)
        if hidden:
            raise UnfitError(f"{folder} has modules with the names of others that are loaded: {hidden}")
        try:
            with open(script, "rb") as file:
                source = file.read()
            self.code = compile(source, script, "exec")
            module = new_module("__fractal_warm_start__", script)
            exec(module_body(source, script), module.__dict__)
        except BaseException as error:
            raise UnfitError(f"importing {script} failed: {type(error).__name__}: {error}") from error
        finally:
            sys.modules.pop("__fractal_warm_start__", None)
        self.settle()

    def import_learned(self, avoid: list[str]) -> None:
        """Import the modules that a unit was seen to load, where they still come from the same file.

        :raises UnfitError: if one fails or starts a thread; its name is the error's second argument.
        """
        from importlib.util import find_spec

        with open(self.batch.path(self.batch.modules_file), encoding="utf-8") as file:
            learned = json.load(file)
        for name, origin in learned:
            if name in sys.modules or name in avoid:
                continue
            try:
                spec = find_spec(name)
                if spec is not None and spec.origin == origin:
                    __import__(name)
            except BaseException as error:
                raise UnfitError(f"importing {name} failed: {error}", name) from error
            if threading.active_count() > 1:
                raise UnfitError(f"importing {name} started a thread", name)
        self.settle()

    def settle(self) -> None:
        """Make ready to fork.

        :raises UnfitError: if threads run, which a fork would lose, perhaps while they hold a lock.
        """
        flush_streams()
        if len(sys._current_frames()) > 1 or busy_threads():
            raise UnfitError("importing its modules leaves threads running")
        gc.freeze()  # children neither visit nor copy what is there already
        self.modules = set(sys.modules)

    def serve(self) -> None:
        """Fork units as the scheduler asks, until it closes the pipe or a signal asks for the end."""
        self.report({"event": "ready"})
        commands, unread = self.channel[0], b""
        ending = False
        while not ending or self.units:  # units get the same signal, and their time to end
            readable = select.select([self.signals.fd, commands], [], [])[0]
            if self.signals.fd in readable:
                ending = is_ending(self.signals.read()) or ending
                self.take_ended()
            if commands in readable:
                data = os.read(commands, 65536)
                if not data:
                    break
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
        if self.successor:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.successor, 0)

    def obey(self, command: dict[str, Any]) -> None:
        if "run" in command:
            self.start(command["run"], command["learn"])
        else:
            parent = os.getpid()
            self.successor = fork()
            if self.successor == 0:
                grow_into_second(self, parent, command["avoid"])

    def start(self, index: int, learn: bool) -> None:
        try:
            self.batch.remove_output(index)
            log_fd, log_start = self.batch.open_log(index)
        except OSError as error:
            self.report({"event": "unstarted", "index": index, "error": str(error)})
            return
        unit = Unit(index, log_start)
        parent = os.getpid()
        pid = fork()
        if pid == 0:
            code = 1
            try:
                become_unit(self.prctl, self.signals, parent, self.batch.folder, log_fd)
                close_fds((log_fd, *self.channel, *self.successor_channel))
                code = self.run_as_main(index, learn)
            finally:
                os._exit(code)
        os.close(log_fd)
        self.units[pid] = unit

    def take_ended(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.successor:
                self.successor = 0
                if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_UNFIT):
                    self.report({"event": "successor died"})
            unit = self.units.pop(pid, None)
            if unit is None:  # a process that a module started when it was imported
                continue
            send_signal(-pid, signal.SIGTERM)  # what the unit left running in the background
            measures = unit.measures(usage)
            report = {"event": "ended", "index": unit.index, "status": status, "log_start": unit.log_start}
            self.report({**report, "measures": measures})

    def report(self, report: dict[str, Any]) -> None:
        os.write(self.channel[1], json.dumps(report).encode() + b"\n")

    def run_as_main(self, index: int, learn: bool) -> int:
        """In a unit's process: be ``PYTHON SCRIPT.py`` from here on; return the exit code."""
        sys.argv = self.batch.arguments(index)[1:]
        own_exit_handlers_only()
        reseed()
        gc.enable()
        main = new_module("__main__", self.script)
        code = run_code(self.code, main)
        if learn and code == 0:
            self.write_modules()
        return finish(code, main)

    def write_modules(self) -> None:
        """Note which modules this unit loaded on its way, in that order, and where from."""
        learned = [
            (name, spec.origin)
            for name, module in list(sys.modules.items())
            if name not in self.modules
            and (spec := getattr(module, "__spec__", None)) is not None
            and spec.name == name
        ]
        path = self.batch.path(self.batch.modules_file)
        with contextlib.suppress(OSError):
            unfinished = f"{path}.{os.getpid()}"
            with open(unfinished, "w", encoding="utf-8") as file:
                json.dump(learned, file)
            os.replace(unfinished, path)


def hidden_modules(folder: str) -> list[str]:
    """Return the modules that a script would import from its own folder, were they not loaded already."""
    own = {name.partition(".")[0] for name in os.listdir(folder)}
    loaded = {name.partition(".")[0] for name in set(sys.modules) - _LOADED_BY_PYTHON}
    return sorted(own & loaded)


def module_body(source: bytes, script: str) -> types.CodeType:
    """Return what of a script runs ahead of its units.

    All of it, if what it does is behind ``if __name__ == "__main__"``; else no more than the imports and
    definitions that it begins with.
    """
    import ast

    tree = ast.parse(source, script)
    if not any(is_main_guard(node) for node in tree.body):
        harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        kept: list[ast.stmt] = []
        for node in tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not docstring and not isinstance(node, harmless):
                break
            kept.append(node)
        tree.body = kept
    return compile(tree, script, "exec")


def is_main_guard(node: Any) -> bool:
    import ast

    return isinstance(node, ast.If) and any(
        isinstance(name, ast.Name) and name.id == "__name__" for name in ast.walk(node.test)
    )


def new_module(name: str, script: str) -> types.ModuleType:
    """Make the module that a script runs in, as Python itself would make ``__main__``."""
    from importlib.machinery import SourceFileLoader

    module = types.ModuleType(name)
    module.__dict__.update(
        __file__=script, __builtins__=__builtins__, __cached__=None, __spec__=None,
        __loader__=SourceFileLoader(name, script), __annotations__={},
    )  # fmt: skip
    sys.modules[name] = module
    return module


def run_code(code: types.CodeType, main: types.ModuleType) -> int:
    """Run a script and return its exit code, with everything printed that Python would print."""
    try:
        exec(code, main.__dict__)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        # The first frame of the traceback is this one's: leave it out.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def finish(code: int, main: types.ModuleType) -> int:
    """Do what Python does at its end, except taking all modules apart, which takes long and helps nobody."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at any exit
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.setswitchinterval(60)  # from here on, daemon threads rest, as at Python's own end
    main.__dict__.clear()
    gc.collect()
    for value in gc.get_objects():
        # By type(), since asking a lazy object for its class may run anything.
        if issubclass(type(value), (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)):
            with contextlib.suppress(OSError, ValueError):
                value.flush()
    try:
        flush_streams()
        flush_c_streams()
    except (OSError, ValueError):
        return code or 120  # as Python does
    return code


def flush_c_streams() -> None:
    """Write out what libraries in C have printed."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).fflush(None)


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def own_exit_handlers_only() -> None:
    """Leave to the generation what it must do once: removing the temporary folders of its modules."""
    import weakref

    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    shutil = sys.modules.get("shutil")
    for function in (os.unlink, os.remove, os.rmdir, getattr(shutil, "rmtree", None)):
        if function is not None:
            atexit.unregister(function)


def reseed() -> None:
    """Give this process random numbers of its own; Python's own generator does so by itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def busy_threads() -> bool:
    """Tell whether threads of libraries are at work, which a fork would lose, perhaps holding a lock.

    Threads that sleep hold none. Libraries start some when they are imported, and either do without them
    in a fork (memory allocators) or end them before it by themselves (OpenBLAS).
    """
    for _ in range(20):
        states = [state for thread, state in thread_states() if thread != os.getpid()]
        if all(state == b"S" for state in states):
            return False
        time.sleep(0.01)
    return True


def thread_states() -> list[tuple[int, bytes]]:
    found = []
    folder = "/proc/self/task"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError), open(f"{folder}/{name}/stat", "rb") as file:
            found.append((int(name), file.read().rpartition(b")")[2].split()[0]))
    return found


def start_first_generation(
    batch: Batch, prctl: Any, signals: Signals, script: str, channels: list[Channel]
) -> int:
    """Fork the first generation from the scheduler and return its id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        for channel in channels:
            channel.keep_mine()
        return pid
    signals.forget()
    die_with_parent(prctl, parent, signal.SIGKILL)
    first, second = (channel.theirs for channel in channels)
    close_fds(set(open_fds()) - {0, 1, 2, *first, *second})
    generation = Generation(batch, prctl, first, second)
    live(generation, lambda: generation.import_script(script))
    raise AssertionError  # live() does not return


def grow_into_second(generation: Generation, parent: int, avoid: list[str]) -> None:
    """In a fork of the first generation: become the second. Does not return."""
    generation.signals.forget()
    die_with_parent(generation.prctl, parent, signal.SIGKILL)
    own_exit_handlers_only()
    close_fds(generation.channel)
    generation.signals = Signals()
    generation.channel = generation.successor_channel
    generation.successor_channel = ()
    generation.units = {}
    generation.successor = 0
    live(generation, lambda: generation.import_learned(avoid))


def live(generation: Generation, prepare: Any) -> None:
    """Prepare and serve, and leave with the exit handlers of the imported modules."""
    try:
        prepare()
    except UnfitError as error:
        generation.report({"event": "unfit", "why": error.args[0], "blame": [*error.args[1:]]})
        os._exit(EXIT_UNFIT)
    try:
        generation.serve()
        atexit._run_exitfuncs()
    finally:
        os._exit(0)


# ---------------------------------------------------------------------------------------------- scheduling
class Channel:
    """Two pipes between the scheduler and a generation: commands one way, reports the other."""

    def __init__(self) -> None:
        commands_read, self._commands = os.pipe()
        self.reports, reports_write = os.pipe()
        self.theirs = (commands_read, reports_write)
        self._unread = b""

    def keep_mine(self) -> None:
        """In the scheduler, after the fork."""
        close_fds(self.theirs)

    def send(self, command: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then its reports end, too
            os.write(self._commands, json.dumps(command).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the reports that have come; None if the other side is gone."""
        data = os.read(self.reports, 65536)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        close_fds((self._commands, self.reports))


class WarmStart:
    """In the scheduler: the generations, and which of them the next unit is forked from."""

    MOST_TRIES = 3  # to grow a second generation, each time without the module that was to blame

    def __init__(self, batch: Batch, prctl: Any, signals: Signals, script: str) -> None:
        self.channels = [Channel(), Channel()]
        self.ready = [False, False]
        self.pid = start_first_generation(batch, prctl, signals, script, self.channels)
        self._modules_path = batch.path(batch.modules_file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._modules_path)
        self._avoid: list[str] = []
        self._tries = 0
        self._hold_until = 0.0

    def current(self) -> int | None:
        """Return the generation that may fork a unit now; None while it is better to wait."""
        if self.ready[1]:
            return 1
        return 0 if self.ready[0] and time.monotonic() >= self._hold_until else None

    def hold_seconds(self) -> float:
        return max(0.0, self._hold_until - time.monotonic())

    def fork_unit(self, generation: int, index: int) -> None:
        learn = generation == 0 and self._tries == 0
        self.channels[generation].send({"run": index, "learn": learn})

    def grow(self, first_unit_seconds: float) -> None:
        """Ask for the second generation, once a unit has told which modules it loaded."""
        if self._tries or not has_content(self._modules_path):
            return
        # Importing them takes no longer than the unit did that loaded them: waiting is the shorter way.
        self._hold_until = time.monotonic() + max(HOLD_SECONDS, 2 * first_unit_seconds)
        self._ask_to_grow()

    def second_is_unfit(self, blame: list[str]) -> None:
        """Try once more without the module that was to blame, or go on with the first generation."""
        self._avoid += blame
        if not blame or self._tries >= self.MOST_TRIES:
            self._hold_until = 0.0
            return
        self._ask_to_grow()

    def second_died(self) -> None:
        self.ready[1] = False
        self._hold_until = 0.0

    def _ask_to_grow(self) -> None:
        self._tries += 1
        self.channels[0].send({"grow": True, "avoid": self._avoid})

    def close(self) -> None:
        for channel in self.channels:
            channel.close()

    def end(self) -> None:
        """Let the generations run their exit handlers."""
        self.close()
        deadline = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.002)


def has_content(path: str) -> bool:
    try:
        return os.path.getsize(path) > len("[]")
    except OSError:
        return False


class Unit:
    """A unit that runs: how it was started, and where its log begins.

    :param generation: the one that it was forked from; None for a process of its own.
    """

    def __init__(self, index: int, log_start: int = 0, generation: int | None = None) -> None:
        self.index = index
        self.log_start = log_start
        self.generation = generation
        self.started_at = time.time()
        self._clock = time.monotonic()

    def measures(self, usage: resource.struct_rusage) -> dict[str, Any]:
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

    def __init__(self, batch: Batch, prctl: Any, signals: Signals) -> None:
        self.batch = batch
        self.prctl = prctl
        self.signals = signals
        self.host = os.uname().nodename
        path = batch.path("results.jsonl")
        former = read_results(path)
        todo = [index for index in range(batch.count) if former.get(index, {}).get("status") != "done"]
        # What failed before is tried again in a process of its own: then it is not the warm start's doing.
        self.cold_only = {index for index in todo if index in former}
        self.pending = collections.deque(todo)
        self.running: dict[int, Unit] = {}  # by index
        self.pids: dict[int, Unit] = {}
        self.results = Results(path)
        self.warm: WarmStart | None = None

    def run(self) -> int:
        self.warm_up()
        while self.pending or self.running:
            self.fill()
            if is_ending(self.wait()):
                return EXIT_TERMINATED
            self.take_ended()
        self.results.sync()
        if self.warm:
            self.warm.end()
        return 0

    def warm_up(self) -> None:
        script = script_of(self.batch.command)
        warm = [index for index in self.pending if index not in self.cold_only]
        if self.batch.warm_start and script and len(warm) > 1:
            self.warm = WarmStart(self.batch, self.prctl, self.signals, script)

    def fill(self) -> None:
        while self.pending and len(self.running) < self.batch.parallel:
            index = self.pending[0]
            if self.warm is None or index in self.cold_only:
                self.pending.popleft()
                self.start(index)
                continue
            generation = self.warm.current()
            if generation is None:
                return
            self.pending.popleft()
            self.running[index] = Unit(index, generation=generation)
            self.warm.fork_unit(generation, index)

    def wait(self) -> bytes:
        """Wait for a signal or a report, and take the reports."""
        if not (self.pending or self.running):
            return b""
        channels = self.warm.channels if self.warm else []
        seconds = min(1.0, (self.warm and self.warm.hold_seconds()) or 1.0)
        fds = [self.signals.fd, *(channel.reports for channel in channels)]
        readable = select.select(fds, [], [], seconds)[0]
        for number, channel in enumerate(channels):
            if channel.reports in readable and self.warm:
                reports = channel.receive()
                if reports is None:
                    self.cool_down("its process died")
                    break
                for report in reports:
                    self.take_report(number, report)
        return self.signals.read() if self.signals.fd in readable else b""

    def take_report(self, generation: int, report: dict[str, Any]) -> None:
        event = report["event"]
        if event in ("ended", "unstarted"):
            self.take_unit_report(report)
        elif self.warm is None:
            return
        elif event == "ready":
            self.warm.ready[generation] = True
        elif event == "unfit" and generation == 0:
            self.cool_down(report["why"])
        elif event == "unfit":
            note(f"the learned imports are not used: {report['why']}")
            self.warm.second_is_unfit(report["blame"])
        elif event == "successor died":
            note("the process with the learned imports died; going on with the one without")
            self.warm.second_died()
            self.drain(self.warm.channels[1])
            self.requeue(1)

    def take_unit_report(self, report: dict[str, Any]) -> None:
        unit = self.running.pop(report["index"], None)
        if unit is None:
            return
        if report["event"] == "unstarted":
            error = f"the unit cannot be started: {report['error']}"
            self.add_result(unit.index, {"kind": "job", "error": error})
            return
        unit.log_start = report["log_start"]
        if self.warm and unit.generation == 0 and report["status"] == 0 and self.pending:
            self.warm.grow(report["measures"]["seconds"])
        self.fill()  # the next unit runs while this one's result is written
        self.ended(unit, report["status"], report["measures"])

    def cool_down(self, why: str) -> None:
        """Go on without warm start."""
        note(f"no warm start: {why}")
        warm, self.warm = self.warm, None
        if warm:
            for channel in warm.channels:
                self.drain(channel)
            warm.close()
        self.requeue(0)
        self.requeue(1)

    def drain(self, channel: Channel) -> None:
        """Take the last words of a generation that died: units that ended need not run again."""
        while select.select([channel.reports], [], [], 0)[0]:
            reports = channel.receive()
            if reports is None:
                return
            for report in reports:
                if report["event"] in ("ended", "unstarted"):
                    self.take_unit_report(report)

    def requeue(self, generation: int) -> None:
        """Run the units again whose generation died, when what is left of them is gone."""
        lost = [unit for unit in self.running.values() if unit.generation == generation]
        if not lost:
            return
        known = {*self.pids, self.warm.pid if self.warm else 0}
        while True:
            self.take_ended()
            strays = [pid for pid, parent in parents().items() if parent == os.getpid() and pid not in known]
            if not strays:
                break
            for pid in strays:
                send_signal(pid, signal.SIGKILL)
            time.sleep(0.005)
        for unit in lost:
            del self.running[unit.index]
        self.pending.extendleft(sorted((unit.index for unit in lost), reverse=True))

    def start(self, index: int) -> None:
        """Start a unit as a process of its own."""
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
            self.running[index] = self.pids[pid] = unit

    def take_ended(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            unit = self.pids.pop(pid, None)
            if unit is not None:  # else a process that a unit left behind
                send_signal(-pid, signal.SIGTERM)  # what the unit left running in the background
                del self.running[unit.index]
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
        line = {"index": index, "status": status, "host": self.host, **result}
        try:
            self.results.add(line)
        except RecursionError:
            del line["output"]
            error = "the output file is not JSON that can be written again: it is nested too deeply"
            self.results.add({**line, "status": "failed", "kind": "output", "error": error})


def note(text: str) -> None:
    """Say something about the runner itself, in its own log."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


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
    signals = Signals()
    die_with_parent(prctl, guard_pid, signal.SIGTERM)
    try:
        scheduler = Scheduler(batch, prctl, signals)
    except ResultsError as error:
        note(f"the results of {batch.folder} cannot be written: {error}")
        return EXIT_WRITING_FAILED
    try:
        return scheduler.run()
    except ResultsError as error:
        note(f"the results of {batch.folder} cannot be written: {error}")
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
    for fd in open_fds():
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, fd <= 2)  # what was handed down is for the guard and the scheduler
    parent = int(arguments[1]) if len(arguments) > 1 else None
    if parent is not None:
        die_with_parent(prctl, parent, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        batch = Batch(arguments[0])
        if not lock(batch):
            print(f"another runner works in {batch.folder}", file=sys.stderr)
            return EXIT_LOCKED
        os.chdir(batch.folder)  # where the units run, so that relative paths mean the same everywhere
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
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
