"""Commands as one line of text that any login shell takes, and replies without what that shell printed itself."""

from __future__ import annotations

import base64
import secrets
import shlex
from collections.abc import Sequence

# Linux takes no longer single argument, and sshd gives the whole line to the login shell as one.
_LONGEST_LINE = 128 * 1024 - 1

# sh stays (it does not `exec`), so that a command killed by a signal has an exit code, too: 128 + the signal.
_RUN = """\
printf %s "$1"; printf %s "$1" >&2
shift
"$@"
exit $?"""


def new_marker() -> str:
    """Return a text that nothing prints by chance: what comes after it is the command's own output."""
    return f"=={secrets.token_hex(16)}=="


def encode_argument(argument: str) -> bytes:
    """Return an argument or a path as the bytes that the system knows it by.

    :raises ValueError: if it has a NUL character, which no argument can have.
    """
    if "\0" in argument:
        raise ValueError(f"an argument of a command cannot have a NUL character: {argument!r}")
    return argument.encode("utf-8", "surrogateescape")


def marked(argv: Sequence[str], marker: str) -> list[str]:
    """Return the command that prints a marker on both outputs, and then does what ``argv`` says."""
    return ["/bin/sh", "-c", _RUN, "sh", marker, *argv]


def command_line(argv: Sequence[str], marker: str) -> str:
    """
    Return a marked command as one line that means the same to every shell, be it bash, csh or fish.

    The command is quoted for sh, and travels in characters that no shell touches; only ``/bin/sh`` unpacks it.

    :raises ValueError: if the command is too long.
    """
    text = b"exec " + b" ".join(_quote(argument) for argument in marked(argv, marker))
    packed = base64.b64encode(text).decode("ascii")
    line = f"exec /bin/sh -c 'eval \"$(echo {packed} | base64 -d)\"'"
    if len(line) > _LONGEST_LINE:
        raise ValueError(
            f"a command of {len(text)} bytes is too long for SSH: give it what is long as its input"
        )
    return line


def after_marker(output: bytes, marker: str) -> bytes | None:
    """Return what a command printed after its marker; None if the marker never came."""
    _, found, printed = output.partition(marker.encode("ascii"))
    return printed if found else None


def _quote(argument: str) -> bytes:
    quoted = shlex.quote(encode_argument(argument).decode("latin-1"))  # byte by byte: no text is lost
    return quoted.encode("latin-1")
