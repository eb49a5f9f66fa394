"""Memory: what processes take, and whom the kernel killed for taking too much."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from .processes import descendants

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
_CGROUPS = "/sys/fs/cgroup"
_FULL = 0.95  # of what was asked for: a unit that was killed with as much was killed for it


def oom_kills() -> int:
    """Return how many processes of this one's control group the kernel has killed for want of memory."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            paths = oom_files(file.read())
    except OSError:
        return 0
    return sum(map(_read_oom_kills, paths))


def oom_files(cgroups: str) -> list[str]:
    """Return where the kernel counts its victims, for what ``/proc/self/cgroup`` says; v1 and v2."""
    found = []
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [f"{_CGROUPS}{root}{path}/memory.events" for root in ("", "/unified")]
        elif "memory" in controllers.split(","):
            found.append(f"{_CGROUPS}/memory{path}/memory.oom_control")
    return found


def parse_oom_kills(text: str) -> int:
    """Return the number of victims that such a file says.

    >>> parse_oom_kills("low 0\\noom 3\\noom_kill 2\\n")
    2
    """
    match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def _read_oom_kills(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            return parse_oom_kills(file.read())
    except OSError:
        return 0


def is_full(used_mb: float, requested_mb: float | None) -> bool:
    """Tell whether memory was used up."""
    return requested_mb is not None and used_mb >= _FULL * requested_mb


def resident_mb(pids: Iterable[int]) -> float:
    """Return the memory that processes have, all together; what they share counts for each."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                pages += int(file.read().split()[1])
        except (OSError, IndexError):
            continue  # it has ended
    return pages * _PAGE_MB


def resident_mb_below() -> float:
    """Return the memory of all processes below this one."""
    return resident_mb(descendants(os.getpid()))
