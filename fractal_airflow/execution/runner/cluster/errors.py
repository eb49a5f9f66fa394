"""Why a request could not be met, in the form in which a reply says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ProgramError(Exception):
    """A request that could not be met.

    :param kind: ``controller``: SLURM's controller does not answer. ``busy``: not now, but later. ``refused``:
        SLURM refused the job. ``folder``: a folder cannot be read or written. ``setup``: SLURM's commands
        are missing here, or are not what this program knows. ``request``: the request makes no sense.
    :param more: what else the reply says about it.
    """

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.more = more

    def reply(self) -> dict[str, Any]:
        """Return the error as the reply has it."""
        return {"kind": self.kind, "message": str(self), **self.more}


def in_doubt(**more: Any) -> ProgramError:
    """Return the error that says that nobody knows yet whether SLURM took a job."""
    message = "the last submission was not answered, and its job may still turn up in the queue"
    return ProgramError("controller", message, maybe_accepted=True, **more)


@contextmanager
def writing(folder: str) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise ProgramError("folder", f"{folder} cannot be written: {reason}{where}") from error
