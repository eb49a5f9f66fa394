"""What an administrator wants to know of a cluster before anybody uses it."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import sys
import time
from contextlib import suppress
from typing import Any

from . import commands
from .errors import ProgramError
from .queue import parse_limit, parse_memory_mb, read_queue

CHECK_FOLDER = os.path.join(
    ".fractal", "check"
)  # in the work folder; a check's job is a batch like any other
OLD_SECONDS = 3600.0

# What each is asked; `sbatch` and `scancel` are not asked anything that changes something.
_QUESTIONS = {
    "sbatch": ("--version",),
    "scancel": ("--version",),
    "squeue": ("--version",),
    "scontrol": ("show", "config"),
    "sinfo": ("--noheader", "-o", "%P|%a|%l|%D|%c|%m|%G"),
    "sacct": ("--noheader", "--parsable2", "--format=JobID", "--allocations"),
}
_LIMITS = (
    "ClusterName", "MaxJobCount", "MaxArraySize", "MinJobAge", "DefMemPerNode", "DefMemPerCPU", "MaxMemPerNode",
    "MaxMemPerCPU", "EnforcePartLimits", "JobRequeue", "KillWait", "PreemptMode", "SelectType",
    "SelectTypeParameters", "ProctrackType", "JobAcctGatherType", "AccountingStorageType", "MessageTimeout",
)  # fmt: skip


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Try everything that will be needed; what fails is part of the reply, and stops nothing else."""
    answers = {name: question(name, arguments) for name, arguments in _QUESTIONS.items()}
    queue = time_queue()
    remove_old(os.path.join(request["work_dir"], CHECK_FOLDER))
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "user": user_name(),
        "host": os.uname().nodename,
        "slurm": slurm_version(answers["squeue"]["out"]),
        "commands": {
            name: {key: value for key, value in answer.items() if key != "out"}
            for name, answer in answers.items()
        },
        "queue": queue,
        "partitions": parse_partitions(answers["sinfo"]["out"]),
        "limits": parse_limits(answers["scontrol"]["out"]),
        "work_dir": check_folder(request["work_dir"]),
    }


def question(name: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """Ask one command; return where it is, how long it took, and what is wrong with it."""
    path = commands.find(name)
    if path is None:
        return {"path": None, "seconds": None, "error": f"there is no {name} on this machine", "out": ""}
    clock = time.monotonic()
    ran = commands.run(name, *arguments)
    error = None if ran.code == 0 else ran.words
    return {"path": path, "seconds": round(time.monotonic() - clock, 3), "error": error, "out": ran.out}


def time_queue() -> dict[str, Any]:
    """Read the queue as every poll does."""
    clock = time.monotonic()
    try:
        count = len(read_queue())
    except ProgramError as error:
        return {"jobs": None, "seconds": None, "error": str(error)}
    return {"jobs": count, "seconds": round(time.monotonic() - clock, 3), "error": None}


def slurm_version(text: str) -> str | None:
    """Return the version that ``squeue --version`` printed.

    >>> slurm_version("slurm-wlm 22.05.8")
    '22.05.8'
    """
    words = text.split()
    return words[1] if len(words) > 1 else None


def parse_partitions(text: str) -> list[dict[str, Any]]:
    """Return the partitions that ``sinfo`` printed: a line for each kind of node that one has."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 6)
        if len(fields) == 7:
            name, available, time_limit, nodes, cpus, memory, gres = fields
            found.append(
                {
                    "name": name.rstrip("*"),
                    "default": name.endswith("*"),
                    "available": available == "up",
                    "time_limit": parse_limit(time_limit),
                    "nodes": _number(nodes),
                    "cpus": _number(cpus),
                    "mem_mb": parse_memory_mb(memory.rstrip("+")),
                    "gres": "" if gres == "(null)" else gres,
                }
            )
    return found


def parse_limits(text: str) -> dict[str, str]:
    """Return what matters of the settings that ``scontrol show config`` printed."""
    pairs = (line.partition("=") for line in text.splitlines())
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    return {name: settings[name] for name in _LIMITS if name in settings}


def check_folder(work_dir: str) -> dict[str, Any]:
    """Try to write into the work folder."""
    try:
        os.makedirs(work_dir, exist_ok=True)
        probe = os.path.join(work_dir, f".probe-{secrets.token_hex(6)}")
        with open(probe, "wb") as file:
            file.write(bytes(1 << 16))
            os.fsync(file.fileno())
        os.unlink(probe)
        free_mb = shutil.disk_usage(work_dir).free >> 20
    except OSError as error:
        return {"writable": False, "error": f"{error.strerror or error} ({error.filename})", "free_mb": None}
    return {"writable": True, "error": None, "free_mb": free_mb}


def remove_old(folder: str) -> None:
    """Remove what the jobs of former checks have left, which failed."""
    with suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if time.time() - os.stat(path).st_mtime > OLD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def user_name() -> str:
    """Return who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name on this machine
        return str(os.getuid())


def _number(text: str) -> int | None:
    digits = text.rstrip("+")
    return int(digits) if digits.isdecimal() else None
