"""What a generation imports before it forks units."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from importlib.util import find_spec
from types import CodeType
from typing import Any

from . import LOADED_BY_PYTHON
from .main_module import flush_streams, new_module
from .processes import stat_fields

_SAFE_PATH = getattr(sys.flags, "safe_path", False)  # since Python 3.11: PYTHONSAFEPATH


class UnfitError(Exception):
    """Units cannot be forked from this process.

    :param blame: the module that is the reason, if it is one alone.
    """

    def __init__(self, why: str, blame: str | None = None) -> None:
        super().__init__(why)
        self.blame = blame


def import_script(script: str) -> CodeType:
    """Run a script under another name, so that it imports its modules and defines, but does nothing.

    :return: the script's code, to be run as ``__main__``.
    :raises UnfitError: if that fails, or leaves threads running.
    """
    gc.disable()
    sys.argv = [script]
    folder = os.path.dirname(os.path.realpath(script))
    if not _SAFE_PATH:
        sys.path.insert(0, folder)
    hidden = hidden_modules(folder)
    if hidden:
        raise UnfitError(f"{folder} has modules with the names of others that are loaded: {hidden}")
    try:
        with open(script, "rb") as file:
            source = file.read()
        code = compile(source, script, "exec")
        module = new_module("__fractal_warm_start__", script)
        exec(module_body(source, script), module.__dict__)
    except BaseException as error:
        raise UnfitError(f"importing {script} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.modules.pop("__fractal_warm_start__", None)
    settle()
    return code


def hidden_modules(folder: str) -> list[str]:
    """Return the modules that a script would import from its own folder, were they not loaded already."""
    own = {name.partition(".")[0] for name in os.listdir(folder)}
    loaded = {name.partition(".")[0] for name in set(sys.modules) - LOADED_BY_PYTHON}
    return sorted(own & loaded)


def module_body(source: bytes, script: str) -> CodeType:
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
    """Tell whether a statement is ``if __name__ == ...``."""
    import ast

    return isinstance(node, ast.If) and any(
        isinstance(name, ast.Name) and name.id == "__name__" for name in ast.walk(node.test)
    )


def write_learned(path: str, known: set[str]) -> None:
    """Note which modules this unit loaded on its way, in that order, and where from.

    :param known: the modules that were there when it began.
    :raises OSError: if the file cannot be written.
    """
    learned = [
        (name, spec.origin)
        for name, module in list(sys.modules.items())
        if name not in known and (spec := getattr(module, "__spec__", None)) is not None and spec.name == name
    ]
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(learned, file)
    os.replace(unfinished, path)


def import_learned(path: str, avoid: list[str]) -> None:
    """Import the modules that a unit was seen to load, where they still come from the same file.

    :raises UnfitError: if one fails or starts a thread.
    """
    with open(path, encoding="utf-8") as file:
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
    settle()


def settle() -> None:
    """Make ready to fork.

    :raises UnfitError: if threads run, which a fork would lose, perhaps while they hold a lock.
    """
    flush_streams()
    if len(sys._current_frames()) > 1 or busy_threads():
        raise UnfitError("importing its modules leaves threads running")
    gc.freeze()  # children neither visit nor copy what is there already


def busy_threads() -> bool:
    """Tell whether threads of libraries are at work.

    Threads that sleep hold no lock. Libraries start some when they are imported, and either do without them
    in a fork (memory allocators) or end them before it by themselves (OpenBLAS).
    """
    for _ in range(20):
        if all(state == b"S" for state in other_thread_states()):
            return False
        time.sleep(0.01)
    return True


def other_thread_states() -> list[bytes]:
    """Return the states of all threads of this process but the main one."""
    states = []
    for name in os.listdir("/proc/self/task"):
        if int(name) != os.getpid():
            try:
                states.append(stat_fields(f"/proc/self/task/{name}/stat")[0])
            except OSError:
                continue  # it has ended
    return states
