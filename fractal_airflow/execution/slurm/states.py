"""What SLURM says of a job, in plain words: its state, why it is pending, and what its end means."""

from __future__ import annotations

import re
from typing import Literal

from fractal_airflow.execution.units import ErrorKind

Phase = Literal["pending", "running", "ended"]

# The states of `squeue` and `sacct`, of SLURM 20.11 to 25.05.
_PENDING = frozenset(
    {
        "PENDING", "CONFIGURING", "POWER_UP_NODE", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    }
)  # fmt: skip
_RUNNING = frozenset(
    {
        "RUNNING", "COMPLETING", "EXPEDITING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED",
        "UPDATE_DB",
    }
)  # fmt: skip
_KIND_OF_END: dict[str, ErrorKind | None] = {
    "COMPLETED": None,
    "FAILED": "job",
    "OUT_OF_MEMORY": "memory",
    "TIMEOUT": "time",
    "DEADLINE": "time",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
}

# What the job's own stderr says of its end. The last one counts: a job that was requeued has several.
_TRACES: tuple[tuple[ErrorKind, str], ...] = (
    ("memory", r"exceeded (?:job )?memory limit|oom[-_ ]kill|Some of the step tasks have been OOM Killed"),
    ("time", r"\*\*\* .* CANCELLED AT .* DUE TO TIME LIMIT"),
    ("node", r"\*\*\* .* CANCELLED AT .* DUE TO NODE FAILURE"),
    ("preempted", r"\*\*\* .* CANCELLED AT .* DUE TO PREEMPTION"),
)
# Said of jobs that are cancelled, but also of those that are killed for their memory.
_TRACE_OF_ANY_KILL = r"\*\*\* .* CANCELLED AT \S+ \*\*\*"


def plain_state(state: str) -> str:
    """Return a state without what is added to it.

    >>> plain_state("CANCELLED by 1000")
    'CANCELLED'
    """
    words = state.split()
    return words[0].rstrip("+").upper() if words else ""


def phase_of(state: str) -> Phase | None:
    """Return how far a job is; None for a state that nobody here has heard of."""
    name = plain_state(state)
    if name in _PENDING:
        return "pending"
    if name in _RUNNING:
        return "running"
    return "ended" if name in _KIND_OF_END else None


def kind_of_end(state: str | None, stderr_tail: str = "") -> ErrorKind | None:
    """Return what the end of a job means for units without a result; None if the job ended well.

    Where the state says no more than that the job failed, or nobody knows it any more, the job's own stderr
    may know why: some clusters report a job that was killed for memory as failed.

    :param state: None where neither ``squeue`` nor ``sacct`` knows the job.
    """
    kind = _KIND_OF_END.get(plain_state(state), "job") if state else "job"
    return traced_kind(stderr_tail) or kind if kind == "job" else kind


def traced_kind(stderr_tail: str) -> ErrorKind | None:
    """Return what a job's stderr says of its end, if it says anything."""
    found: tuple[int, ErrorKind] | None = None
    for kind, pattern in _TRACES:
        for match in re.finditer(pattern, stderr_tail, re.IGNORECASE):
            if found is None or match.start() > found[0]:
                found = match.start(), kind
    if found:
        return found[1]
    return "cancelled" if re.search(_TRACE_OF_ANY_KILL, stderr_tail) else None


_WAITS = {
    "resources": "waits for free resources",
    "priority": "waits behind jobs of higher priority",
    "none": "was not looked at by the scheduler yet",
    "waitingforscheduling": "was not looked at by the scheduler yet",
    "begintime": "waits for the time from which it may start",
    "cleaning": "was requeued, and waits for its former run to be cleaned up",
    "configuring": "waits for its nodes to be ready",
    "prolog": "waits for the cluster's prolog script",
    "dependency": "waits for another job",
    "licenses": "waits for a licence",
    "reservation": "waits for its reservation",
    "deadline": "cannot end before its deadline",
    "jobheldadmin": "is held by an administrator",
    "jobhelduser": "is held by its user: `scontrol release` lets it go",
    "jobholdmaxrequeue": "is held, since it was requeued too often: `scontrol release` lets it go",
    "launch_failed_requeued_held": "is held, since it could not be started: `scontrol release` lets it go",
    "partitiondown": "waits, since its partition takes no jobs for now",
    "partitioninactive": "waits, since its partition starts no jobs for now",
    "nodedown": "waits, since a node that it needs is down",
    "reqnodenotavail": "waits, since a node that it asks for is not available",
    "systemfailure": "waits, since something in the cluster failed",
    "partitiontimelimit": "asks for more time than its partition allows, and will not start as it is",
    "partitionnodelimit": "asks for more nodes than its partition allows, and will not start as it is",
    "partitionconfig": "asks for more than its partition has, and will not start as it is",
    "badconstraints": "asks for what no node has, and will not start as it is",
    "accountnotallowed": "asks for an account that its partition does not allow, and will not start as it is",
    "invalidaccount": "asks for an account that is not valid, and will not start as it is",
    "invalidqos": "asks for a quality of service that is not valid, and will not start as it is",
    "qosnotallowed": "asks for a quality of service that is not allowed, and will not start as it is",
}
_LIMIT = re.compile(r"(assoc|qos|account)?(grp|max|job|resource|time|usage|node).*(limit|per\w+)")


def waiting_words(reason: str) -> str:
    """Return why a job is pending, in plain words, with SLURM's own; an unknown reason as it is.

    >>> waiting_words("Resources")
    'waits for free resources (Resources)'
    >>> waiting_words("QOSMaxJobsPerUserLimit")
    'waits until a limit of the account or quality of service allows it (QOSMaxJobsPerUserLimit)'
    """
    reason = reason.strip().strip("()")
    name = re.split(r"[,:]", reason, maxsplit=1)[0].strip().lower().replace(" ", "_")
    if name.startswith("nodes_required_for_job"):
        words = "waits, since nodes that it needs are down, drained or reserved"
    elif not reason:
        return _WAITS["none"]
    elif name in _WAITS:
        words = _WAITS[name]
    elif _LIMIT.fullmatch(name):
        words = "waits until a limit of the account or quality of service allows it"
    else:
        return f"waits: {reason}"
    return f"{words} ({reason})"
