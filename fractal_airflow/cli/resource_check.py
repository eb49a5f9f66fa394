"""``airflow fractal resource check``: whether a resource works, and what to do where it does not."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fractal_airflow.cli.output import command, print_json, size_text
from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.findings import Finding, is_well
from fractal_airflow.execution.local import LocalResource
from fractal_airflow.execution.resource import BatchCall, make_resource
from fractal_airflow.execution.resource_config import ResourceConfig, load_resource_config
from fractal_airflow.execution.runner.cluster.check import CHECK_FOLDER
from fractal_airflow.hooks.fractal import FractalHook

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@command
def check(args: Any) -> None:
    """Check a resource, and end with exit code 1 where it cannot be used."""
    config = load_configuration(args.name)
    findings: list[Finding] = []
    facts: dict[str, Any] = {}
    steps = _check_local(config) if config.type == "local" else _check_cluster(config, args, facts)
    if args.output == "table":
        print(f"{args.name}: a resource of type {config.type}, work folder {config.work_dir}\n")
    for finding in steps:
        findings.append(finding)
        if args.output == "table":
            print_finding(finding)
    if args.output == "json":
        print_json(
            {
                "resource": args.name,
                "type": config.type,
                "work_dir": str(config.work_dir),
                "ok": is_well(findings),
                "findings": [asdict(finding) for finding in findings],
                "facts": facts,
            }
        )
    else:
        print(f"\n{summary(findings)}")
    if not is_well(findings):
        sys.exit(1)


def load_configuration(name: str) -> ResourceConfig:
    """
    Return the configuration of a resource.

    :raises FractalAirflowError: where there is no such connection, or something is wrong with it.
    """
    hook = FractalHook(name)
    try:
        return load_resource_config(hook.get_configuration())
    except FractalAirflowError as error:
        raise FractalAirflowError(f"Resource {name!r}: {error}") from error


def summary(findings: list[Finding]) -> str:
    """Return what all findings come to, in a line."""
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if errors:
        return f"It cannot be used as it is: {errors} of {len(findings)} checks failed"
    return f"It can be used; {warnings} warning{'' if warnings == 1 else 's'}" if warnings else "All is well"


def print_finding(finding: Finding) -> None:
    """Print a finding, and below it what to do."""
    advice = [f"→ {finding.advice}"] if finding.advice else []
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        text = "\n".join([finding.message, *advice]).replace("\n", "\n" + 24 * " ")
        print(f"{finding.status:<8}  {finding.check:<12}  {text}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8, style=_STYLES[finding.status])
    table.add_column(width=12)
    table.add_column(overflow="fold")
    table.add_row(finding.status, finding.check, "\n".join(map(escape, [finding.message, *advice])))
    console.print(table)


def _check_cluster(config: ResourceConfig, args: Any, facts: dict[str, Any]) -> Iterator[Finding]:
    from fractal_airflow.execution.slurm.checking import ClusterCheck

    cluster = ClusterCheck(config)
    try:
        well = True
        for finding in cluster.look():
            # What the configuration asks for is best judged by SLURM itself: by the job.
            well = well and (finding.status != "error" or finding.check == "partitions")
            yield finding
        facts.update(cluster.facts)
        if not well or args.no_job:
            return
        yield from cluster.run_job({}, account=args.account, wait_s=args.wait)
        if args.gpu:
            yield from cluster.run_job(
                {"needs_gpu": True}, account=args.account, wait_s=args.wait, name="GPU job"
            )
    finally:
        cluster.close()


def _check_local(config: ResourceConfig) -> Iterator[Finding]:
    resource = make_resource(config)
    assert isinstance(resource, LocalResource)
    folder = Path(config.work_dir)
    place = folder / CHECK_FOLDER / secrets.token_hex(6)
    call = BatchCall(
        units=[{}],
        command=("/bin/sh", "-c", "exit 0"),
        folder=str(place / "batch"),
        generation="check",
        meta={},
        label="resource check",
    )
    log = logging.getLogger(__name__)
    log.propagate = False
    try:
        (outcome,) = resource.run(call, log=log).outcomes
    except FractalAirflowError as error:
        yield Finding("work folder", "error", str(error))
        return
    free = size_text(shutil.disk_usage(folder).free)
    yield Finding("work folder", "ok", f"{folder} can be written, {free} free")
    slots = f"{resource.slots} batches at once, on {len(os.sched_getaffinity(0))} cores"
    yield Finding("slots", "ok", slots)
    if outcome.error:
        yield Finding("unit", "error", outcome.error.message)
        return
    shutil.rmtree(place, ignore_errors=True)
    yield Finding("unit", "ok", f"a unit ran on {outcome.host}")
