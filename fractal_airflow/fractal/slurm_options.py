"""The options of SLURM's ``sbatch`` that lines of ``extra_lines`` may have, checked without a cluster."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HEADER = re.compile(r"\s*#SBATCH(?:\s+(.*))?", re.DOTALL)

# All options of SLURM 20.11 to 25.05, by whether they take a value.
_WITH_VALUE = _names(
    """
    account acctg-freq array batch bb bbf begin chdir cluster cluster-constraint clusters comment constraint
    container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
    dependency distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus
    gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses
    mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes
    ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode output
    partition power prefer priority profile qos reservation segment signal sockets-per-node switches
    tasks-per-node thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes
    wckey wrap
    """
)
_WITH_OPTIONAL_VALUE = _names("exclusive get-user-env nice no-kill oom-kill-step propagate resv-ports")
_WITHOUT_VALUE = _names(
    """
    autocomplete consolidate-segments contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable
    quiet reboot requeue share spread-job spread-segments stepmgr test-only usage use-min-nodes verbose version
    wait
    """
)
_ALL = _WITH_VALUE | _WITH_OPTIONAL_VALUE | _WITHOUT_VALUE
_SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution",
    "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos",
    "S": "core-spec", "s": "oversubscribe", "t": "time", "V": "version", "v": "verbose", "W": "wait",
    "w": "nodelist", "x": "exclude",
}  # fmt: skip

# What a job asks for is counted by unit, so it must come by its key.
_BY_KEY = {
    "cpus-per-task": "cpus_per_task",
    "mem": "mem",
    "mem-per-cpu": "mem",
    "mem-per-gpu": "mem",
    "time": "time",
}
# These would change what a job is, where it writes, or what its submission answers.
_OURS = _names(
    """
    array autocomplete chdir cluster clusters error gid help input job-name ntasks ntasks-per-core ntasks-per-gpu
    ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode output parsable signal tasks-per-node test-only uid
    usage version wait wrap
    """
)

KNOWN_OPTIONS = frozenset(_ALL - _OURS - set(_BY_KEY) - {"account"})


def is_header(line: str) -> bool:
    """Tell whether a line is read by ``sbatch``; any other line is run by the shell."""
    return _HEADER.fullmatch(line) is not None


def header_options(line: str) -> dict[str, str | None]:
    """
    Return the options of a ``#SBATCH`` line by their long names, with their values.

    >>> header_options("#SBATCH -p gpu --gres=gpu:2 --exclusive")
    {'partition': 'gpu', 'gres': 'gpu:2', 'exclusive': None}

    :raises ValueError: where there is one that ``sbatch`` does not know, listing those that it knows.
    """
    match = _HEADER.fullmatch(line)
    if match is None:
        return {}
    try:
        words = shlex.split(match[1] or "")
    except ValueError as error:
        raise ValueError(f"{line!r} cannot be read: {error}") from error
    return dict(_options(words, line))


def check_extra_line(line: str) -> None:
    """
    Check a line of ``extra_lines``: if ``sbatch`` reads it, then it has options that it knows.

    :raises ValueError: where it has others, or some that this project sets itself.
    """
    if not is_header(line):
        return
    options = header_options(line)
    if not options:
        raise ValueError(f"{line!r} has no option")
    for name in options:
        if name == "account":
            raise ValueError(f"{line!r}: an account belongs to the resource (key 'account') or to the run")
        if name in _BY_KEY:
            raise ValueError(
                f"{line!r}: --{name} is worked out from what one unit needs; give that as {_BY_KEY[name]!r}"
            )
        if name in _OURS:
            raise ValueError(f"{line!r}: --{name} is set by the system, and cannot be chosen")


def _options(words: list[str], line: str) -> Iterator[tuple[str, str | None]]:
    rest = iter(words)
    for word in rest:
        if word.startswith("#"):
            return  # a remark
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = _long_name(name, line)
            if not equals and name in _WITH_VALUE:
                yield name, _next_value(rest, f"--{name}", line)
            elif equals and name in _WITHOUT_VALUE:
                raise ValueError(f"{line!r}: --{name} takes no value")
            else:
                yield name, value if equals else None
        elif word.startswith("-") and len(word) > 1:
            yield from _short_options(word[1:], rest, line)
        else:
            raise ValueError(f"{line!r}: {word!r} is no option: options begin with '-' or '--'")


def _short_options(letters: str, rest: Iterator[str], line: str) -> Iterator[tuple[str, str | None]]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter)
        if name is None:
            raise ValueError(_unknown(f"-{letter}", "", line))
        if name in _WITH_VALUE:
            yield name, letters or _next_value(rest, f"-{letter}", line)
            return
        if name in _WITH_OPTIONAL_VALUE:
            yield name, letters or None
            return
        yield name, None


def _long_name(name: str, line: str) -> str:
    """Return the whole name: as everywhere, an unambiguous beginning is enough."""
    if name in _ALL:
        return name
    found = [known for known in _ALL if name and known.startswith(name)]
    if len(found) != 1:
        raise ValueError(_unknown(f"--{name}", name, line))
    return found[0]


def _next_value(rest: Iterator[str], option: str, line: str) -> str:
    value = next(rest, None)
    if value is None:
        raise ValueError(f"{line!r}: {option} needs a value")
    return value


def _unknown(option: str, name: str, line: str) -> str:
    near = difflib.get_close_matches(name.replace("_", "-").lower(), sorted(_ALL), 1, cutoff=0.8)
    hint = f"; did you mean '--{near[0]}'?" if near else "."
    known = ", ".join(f"--{known}" for known in sorted(KNOWN_OPTIONS))
    return f"{line!r}: {option!r} is no option of sbatch{hint} The valid ones: {known}"
