"""Handing a job to SLURM, and what its refusals mean."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from . import commands
from .commands import Ran
from .errors import ProgramError

SCRIPT_FILE = "job.sh"
DEADLINE_SECONDS = 60.0

# The job was not taken, and the next try may be luckier.
_BUSY = (
    "temporarily unable to accept job",
    "Resource temporarily unavailable",  # as many jobs as the controller may have (MaxJobCount)
    "SubmitJob",  # AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit ...
    "GrpSubmitJobs",
    "Required partition not available",  # drained for a while
    "I/O error writing script/environment to file",  # the controller's disk is full
)

# No connection at all: the job cannot have been taken.
_NOT_REACHED = (
    "Unable to contact slurm controller",
    "Connection refused",
    "backup controller in standby",
    "Could not establish a configuration source",  # where the controller hands out the configuration
)

# The connection broke before the answer came: the job may have been taken.
_IN_DOUBT = (
    "Socket timed out",
    "Zero Bytes were transmitted or received",
    "Unexpected message received",
    "Communication connection failure",
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "Connection timed out",
    "Broken pipe",
)
_AUTHENTICATION = ("Munge", "munge", "Protocol authentication error", "Invalid authentication credential")

# The option that is to blame, by what SLURM says; the first that fits.
_OPTIONS = (
    ("account", ("Invalid account", "AssocMax", "InvalidAccount")),
    ("partition", ("artition",)),
    ("nodelist", ("Invalid node name", "invalid node name")),
    ("mem", ("Memory specification", "Memory required", "MaxMem")),
    ("time", ("time limit", "MaxWall")),
    ("gres", ("generic resource", "gres", "MaxGRES")),
    ("constraint", ("Invalid feature", "invalid constraint", "Invalid constraint")),
    ("qos", ("Invalid qos", "QOS")),
    ("cpus_per_task", ("CPU count", "processors", "MaxCpu")),
    ("reservation", ("reservation",)),
    ("nodes", ("Node count", "MaxNode")),
    ("licenses", ("license",)),
)


def submit_job(folder: str, name: str, pass_fds: Sequence[int] = ()) -> str:
    """Submit the script in a folder; return the id of the job.

    :param pass_fds: open files that ``sbatch`` keeps open as long as it runs.
    :raises ProgramError: if SLURM did not take it, or did not say whether it did.
    """
    ran = commands.run(
        "sbatch", "--parsable", f"--job-name={name}", SCRIPT_FILE,
        folder=folder, pass_fds=pass_fds, deadline_s=DEADLINE_SECONDS, inherited=True,
    )  # fmt: skip
    job_id = parse_id(ran.out)
    if ran.code == 0 and job_id:
        return job_id
    with open(os.path.join(folder, SCRIPT_FILE), encoding="utf-8") as file:
        raise refusal(ran, file.read())


def parse_id(text: str) -> str | None:
    """Return the id that ``sbatch --parsable`` printed: ``ID`` or ``ID;CLUSTER``; what plugins say is left out."""
    ids = [line.partition(";")[0] for line in text.split()]
    return next((text for text in reversed(ids) if text.isdecimal()), None)


def refusal(ran: Ran, script: str = "") -> ProgramError:
    """Return why SLURM did not take a job.

    :param script: the job's, with its options.
    """
    said = ran.err
    if ran.code == 0:
        message = f"sbatch printed no job id: {ran.out.strip()} {said.strip()}"
        return ProgramError("controller", message, maybe_accepted=True)
    in_doubt = ran.code is None or _has(said, _IN_DOUBT)
    if _has(said, _BUSY):
        more: dict[str, Any] = {"maybe_accepted": True} if in_doubt else {}
        return ProgramError("busy", ran.words, **more)
    if in_doubt:
        return ProgramError("controller", ran.words, maybe_accepted=True)
    if _has(said, _NOT_REACHED) or _has(said, _AUTHENTICATION):
        return ProgramError("controller", ran.words)
    option = option_at_fault(said, script)
    return ProgramError("refused", ran.words, **({"option": option} if option else {}))


def option_at_fault(said: str, script: str = "") -> str | None:
    """Return the option that a refusal is about, as ``meta`` spells it; None where that is not known."""
    if "nvalid node name" in said and "--exclude" in script:
        return "nodelist or exclude" if "--nodelist" in script else "exclude"
    for pattern in (r"(?:unrecognized|ambiguous|invalid) option '?--([a-z-]+)", r"[Ii]nvalid (?:value )?--([a-z-]+)",
                    r"for --([a-z-]+)", r"option '--([a-z-]+)"):  # fmt: skip
        match = re.search(pattern, said)
        if match:
            return match.group(1).replace("-", "_")
    return next((option for option, words in _OPTIONS if _has(said, words)), None)


def _has(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)
