"""Running SLURM's commands: with a deadline, in English, and free of what the user's own variables change."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from .errors import ProgramError

DEADLINE_SECONDS = 60.0

# A shell that is no login shell may not have SLURM's folder in its PATH.
_USUAL_FOLDERS = (
    "/usr/bin", "/usr/local/bin", "/opt/slurm/bin", "/opt/slurm/current/bin", "/usr/local/slurm/bin",
    "/cm/shared/apps/slurm/current/bin",
)  # fmt: skip

# They change what a command shows or does (SQUEUE_PARTITION hides jobs). What says where SLURM is stays.
_CHANGING = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SINFO_", "SCONTROL_")
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")

# A login node that is full: of processes, of memory, of open files.
_STARVED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

_NOT_THIS_SLURM = ("invalid option", "unrecognized option", "Invalid job format", "Invalid field")


class Ran(NamedTuple):
    """A command that was run.

    :param code: its exit code; None if it was stopped at its deadline.
    """

    name: str
    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """Its failure in a sentence, with what it says itself."""
        said = self.err.strip() or self.out.strip()
        if self.code is None:
            return f"{self.name} did not come to an end. {said}".rstrip()
        return f"{self.name} says: {said}" if said else f"{self.name} ended with exit code {self.code}"


def find(name: str) -> str | None:
    """Return the path of a command, or None if there is none."""
    folders = [os.environ.get("PATH", os.defpath), *_USUAL_FOLDERS]
    return shutil.which(name, path=os.pathsep.join(folders))


def environment(own: Mapping[str, str], *, inherited: bool = False) -> dict[str, str]:
    """Return the environment of a command, made of this process's own.

    :param inherited: whether a job inherits it: then only messages are in English, and texts stay in the
        user's own encoding.
    """
    kept = {name: text for name, text in own.items() if name in _KEPT or not name.startswith(_CHANGING)}
    if not inherited:
        return {**kept, "LC_ALL": "C"}
    locale = kept.pop("LC_ALL", "")
    return {**kept, **({"LC_CTYPE": locale} if locale else {}), "LC_MESSAGES": "C"}


def run(
    name: str,
    *arguments: str,
    folder: str | None = None,
    deadline_s: float = DEADLINE_SECONDS,
    pass_fds: Sequence[int] = (),
    inherited: bool = False,
) -> Ran:
    """Run a command of SLURM.

    :param folder: where it runs.
    :param pass_fds: open files that it keeps open as long as it runs.
    :param inherited: whether a job inherits its environment.
    :raises ProgramError: if there is no such command, or it cannot be started now.
    """
    program = find(name)
    if program is None:
        raise ProgramError(
            "setup",
            f"{name} is not found on {os.uname().nodename}: is it a submit host of the cluster, and are "
            f"SLURM's commands in the PATH of a shell that is no login shell (it is {os.environ.get('PATH')})?",
        )
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment(os.environ, inherited=inherited),
            pass_fds=pass_fds,
            start_new_session=True,  # whatever ends this program does not stop it half-way
        )
    except OSError as error:
        if error.errno not in _STARVED:
            raise
        where = os.uname().nodename
        raise ProgramError("busy", f"{name} cannot be started on {where}: {error.strerror}") from error
    code: int | None
    try:
        out, err = process.communicate(timeout=deadline_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # it may be a site's own script around the real one
        out, err = process.communicate()
        code = None
    return Ran(name, code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def ask(name: str, *arguments: str, deadline_s: float = DEADLINE_SECONDS) -> str:
    """Return what a command that asks the controller prints.

    :raises ProgramError: if the controller does not answer.
    """
    ran = run(name, *arguments, deadline_s=deadline_s)
    if ran.code == 0:
        return ran.out
    kind = "setup" if any(words in ran.err for words in _NOT_THIS_SLURM) else "controller"
    raise ProgramError(kind, ran.words)
