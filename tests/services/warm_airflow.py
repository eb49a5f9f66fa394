"""Processes that start with Airflow imported and its API built: ten times faster than a new Python."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

AT_ONCE = 2


def submit(environment: Mapping[str, str], log: Path, function: Callable[..., T], *args: Any) -> Future[T]:
    """
    Call a function in a process of its own, in which Airflow has the given environment.

    :param log: the file into which all goes that the process prints.
    :param function: one that can be imported; it imports Airflow itself, when it is called.
    """
    return _processes().submit(_call, dict(environment), log, function, args)


@cache
def _processes() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(AT_ONCE, mp_context=context, max_tasks_per_child=1)


def _call(environment: dict[str, str], log: Path, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    with log.open("a", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    _go_home(environment)
    return function(*args)


def _go_home(environment: dict[str, str]) -> None:
    """Turn this process, which has served no Airflow yet, into one of the given Airflow."""
    os.environ.clear()
    os.environ.update(environment)
    from airflow import configuration, settings

    configuration.AIRFLOW_HOME = environment["AIRFLOW_HOME"]
    settings.dispose_orm()
    settings.initialize()


def _warm_up() -> None:
    """Import what ``dag.test`` needs. Nothing here may leave a thread: threads do not survive a fork."""
    for name in [name for name in os.environ if "AIRFLOW" in name]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as nowhere:
        os.environ["AIRFLOW_HOME"] = nowhere
        import httpx
        from airflow.sdk.execution_time.supervisor import in_process_api_server

        import fractal_airflow.dag
        import fractal_airflow.dataset.store
        import fractal_airflow.execution.local  # noqa: F401

        async def build_api() -> None:
            # The API makes its routes when it is first called: that takes longer than all imports.
            transport = in_process_api_server().atransport
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                await client.get("/health")

        asyncio.run(build_api())


if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    _warm_up()
