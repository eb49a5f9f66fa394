"""The program itself: reads a request, has it met, and replies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .. import attempts, reading
from .cancel import cancel, leftovers
from .check import check
from .clean import clean
from .collect import collect, results
from .errors import ProgramError, writing
from .poll import poll
from .submit import submit


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Turn good results into failed ones, whose outputs break the schema; or note that all were taken."""
    folder = request["folder"]
    with writing(folder):
        for index, message in sorted(request["reject"].items()):
            attempts.reject(folder, int(index), message)
        if request.get("take"):
            attempts.take(folder)
    return {}


def read_text(request: dict[str, Any]) -> dict[str, Any]:
    """Return the text of a file of a run."""
    return reading.read_text(request["work_dir"], request["run"], request["path"], request["max_bytes"])


def read_log(request: dict[str, Any]) -> dict[str, Any]:
    """Return the log of one unit of the newest attempt of a batch."""
    place = (request[key] for key in ("work_dir", "step_folder", "index", "unit", "max_bytes"))
    return {"log": reading.read_log(*place, whole_list=request["whole_list"])}


def units_of(request: dict[str, Any]) -> dict[str, Any]:
    """Return the units of the newest attempt of a batch."""
    folder, index = request["step_folder"], request["index"]
    return {"batch": reading.units_of(folder, index, whole_list=request["whole_list"])}


REQUESTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "submit": submit,
    "poll": poll,
    "collect": collect,
    "results": results,
    "cancel": cancel,
    "settle": settle,
    "leftovers": leftovers,
    "clean": clean,
    "check": check,
    "read_text": read_text,
    "read_log": read_log,
    "units_of": units_of,
}


def main(_arguments: list[str]) -> int:
    """Meet the request that comes on stdin."""
    # Once a request has come as a whole it is met to its end, even if the connection is cut by then.
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    reply = answer(sys.stdin.buffer.read())
    text = json.dumps(reply).encode() + b"\n"
    with suppress(OSError):  # nobody may be there to read it any more
        while text:
            text = text[os.write(1, text) :]
    return 0


def answer(data: bytes) -> dict[str, Any]:
    """Return the reply to a request; half a request is no JSON, and nothing is done."""
    try:
        return {"ok": meet(parse(data))}
    except ProgramError as error:
        return {"error": error.reply()}


def parse(data: bytes) -> dict[str, Any]:
    """Return the request.

    :raises ProgramError: if it is none.
    """
    try:
        request = json.loads(data)
    except ValueError as error:
        raise ProgramError("request", f"the request is not complete: {error}") from error
    if not isinstance(request, dict) or request.get("do") not in REQUESTS:
        raise ProgramError("request", f"the request asks for none of {', '.join(REQUESTS)}")
    return request


def meet(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for.

    :raises ProgramError: if that is not possible.
    """
    try:
        return REQUESTS[request["do"]](request)
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramError("request", f"{request['do']}: {type(error).__name__}: {error}") from error
    except OSError as error:
        raise ProgramError("folder", f"{request['do']}: {error}") from error
