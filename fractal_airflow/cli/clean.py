"""``airflow fractal clean``: removes the folders of runs that finished long ago."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from fractal_airflow.cli.metadata import connections_of_type, runs_to_keep
from fractal_airflow.cli.output import command, counted, print_error, print_json, print_rows, size_text
from fractal_airflow.exceptions import FractalAirflowError, WorkFolderError
from fractal_airflow.execution.runner import cleaning
from fractal_airflow.hooks.fractal import LOCAL, FractalHook

if TYPE_CHECKING:
    from fractal_airflow.execution.resource import Resource

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw]?)", re.IGNORECASE)
_HOURS = {"h": 1, "d": 24, "": 24, "w": 168}
_VARIABLE = "AIRFLOW_CONN_"


@command
def clean(args: Any) -> None:
    """Remove the folders of runs that finished long ago."""
    before = datetime.now(UTC) - age_limit(args.older_than)
    keep = [] if args.no_airflow else runs_to_keep(before)
    ends = [_clean_one(name, keep, before, args.dry_run) for name in args.resource or resource_names()]
    if args.output == "json":
        print_json(
            {"before": before.isoformat(timespec="seconds"), "dry_run": args.dry_run, "resources": ends}
        )
    else:
        _tell(ends, before, args.dry_run)
    if any(end["error"] or end["failed"] for end in ends):
        sys.exit(1)


def age_limit(text: str | None) -> timedelta:
    """
    Return how old a run must be: what the command was given, or what the settings say.

    :raises FractalAirflowError: for a text that is no age.
    """
    where, unit = "--older-than", ""
    if text is None:
        where, unit = "[fractal_airflow] clean_after_days", "d"
        text = conf.get("fractal_airflow", "clean_after_days")
    match = _AGE.fullmatch(text.strip() + unit)
    if not match:
        raise FractalAirflowError(
            f"{where}: {text!r} is not an age: write 30d for days, 12h for hours, 2w for weeks"
        )
    number, unit = match.groups()
    try:
        limit = timedelta(hours=float(number) * _HOURS[unit.lower()])
        datetime.now(UTC) - limit
    except OverflowError:
        raise FractalAirflowError(f"{where}: {text!r} is longer ago than anything") from None
    return limit


def resource_names() -> list[str]:
    """Return the names of all resources that can be listed: those of a secrets backend cannot."""
    names = {LOCAL, *_names_in_environment(), *connections_of_type(FractalHook.conn_type)}
    return sorted(names, key=lambda name: (name != LOCAL, name))


def _names_in_environment() -> list[str]:
    from airflow.sdk import Connection

    names = []
    for variable in os.environ:
        name = variable.removeprefix(_VARIABLE).lower()
        if variable.startswith(_VARIABLE):
            try:
                conn_type = Connection.get(name).conn_type
            except Exception:  # somebody else's connection, with whatever is wrong with it
                continue
            if conn_type == FractalHook.conn_type:
                names.append(name)
    return names


def _clean_one(name: str, keep: Sequence[str], before: datetime, dry_run: bool) -> dict[str, Any]:
    """Clean a resource; what goes wrong with it must not keep the others from being cleaned."""
    end: dict[str, Any] = {
        "resource": name,
        "work_dir": None,
        "removed": [],
        "in_use": [],
        "failed": [],
        "error": None,
    }
    try:
        resource = FractalHook(name).get_conn()
        end["work_dir"] = str(resource.work_dir)
        where = _clean_local if resource.type == LOCAL else _clean_cluster
        end |= where(resource, keep, before, dry_run)
    except FractalAirflowError as error:
        said, about = str(error), f"Resource {name!r}: "
        end["error"] = said if said.startswith(about) else about + said
    return end


def _clean_local(resource: Resource, keep: Sequence[str], before: datetime, dry_run: bool) -> dict[str, Any]:
    work_dir = str(resource.work_dir)
    try:
        return cleaning.clean(work_dir, keep, before.timestamp(), dry_run=dry_run)
    except OSError as error:
        raise WorkFolderError(f"The work folder {work_dir} cannot be read: {error.strerror}") from error


def _clean_cluster(resource: Any, keep: Sequence[str], before: datetime, dry_run: bool) -> dict[str, Any]:
    request = {
        "work_dir": str(resource.work_dir),
        "keep": keep,
        "before": before.timestamp(),
        "dry_run": dry_run,
    }
    try:
        reply: dict[str, Any] = resource.cluster.ask({"do": "clean", **request})
    finally:
        resource.cluster.close()
    return reply


def _tell(ends: Sequence[dict[str, Any]], before: datetime, dry_run: bool) -> None:
    rows = [
        {"resource": end["resource"], "run folder": each["folder"], "space": size_text(each["bytes"])}
        for end in ends
        for each in end["removed"]
    ]
    if rows:
        print_rows(rows, ("resource", "run folder", "space"))
    for end in ends:
        for folder in end["in_use"]:
            print(f"{end['resource']}: {folder} is old, but something still runs in it: it stays")
        for each in end["failed"]:
            print_error(f"{end['resource']}: {each['folder']} cannot be removed: {each['error']}")
        if end["error"]:
            print_error(end["error"])
    space = size_text(sum(each["bytes"] for end in ends for each in end["removed"]))
    what = f"{counted(len(rows), 'run folder')} untouched since {before:%Y-%m-%d %H:%M} UTC, {space}"
    print(f"Would remove {what}" if dry_run else f"Removed {what}")
