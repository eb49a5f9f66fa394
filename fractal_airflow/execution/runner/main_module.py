"""Being ``PYTHON SCRIPT.py`` in a process that was forked: the ``__main__`` module, and Python's own end."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import weakref
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType

from .processes import flush_c_streams


def new_module(name: str, script: str) -> ModuleType:
    """Make the module that a script runs in, as Python itself would make ``__main__``."""
    module = ModuleType(name)
    module.__dict__.update(
        __file__=script, __builtins__=__builtins__, __cached__=None, __spec__=None,
        __loader__=SourceFileLoader(name, script), __annotations__={},
    )  # fmt: skip
    sys.modules[name] = module
    return module


def run_code(code: CodeType, main: ModuleType) -> int:
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


def finish(code: int, main: ModuleType) -> int:
    """Do what Python does at its end, except taking all modules apart, which takes long and helps nobody."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at any exit
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    if threading.active_count() == 1:  # daemon threads go on using their module until the process ends
        main.__dict__.clear()
        gc.collect()
    flush_open_files()
    try:
        flush_streams()
        flush_c_streams()
    except (OSError, ValueError):
        return code or 120  # as Python does
    return code


def flush_open_files() -> None:
    """Write out what modules keep open: in Python's own end it would be closed."""
    for value in gc.get_objects():
        # By type(), since asking a lazy object for its class may run anything.
        if issubclass(type(value), (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)):
            with contextlib.suppress(OSError, ValueError):
                value.flush()


def flush_streams() -> None:
    """Write out what has been printed."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def own_exit_handlers_only() -> None:
    """Leave to the generation what it must do once: removing the temporary folders of its modules."""
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    shutil = sys.modules.get("shutil")
    for function in (os.unlink, os.remove, os.rmdir, getattr(shutil, "rmtree", None)):
        if function is not None:
            atexit.unregister(function)


def reseed() -> None:
    """Give this process random numbers of its own; Python's own generator does so by itself."""
    for name in ("numpy.random", "torch"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()
