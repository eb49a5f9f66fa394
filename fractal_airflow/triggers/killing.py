"""Whether a task instance whose trigger was stopped is not wanted any more, or goes on elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from typing import Any

GOES_ON = frozenset({"running", "deferred"})
"""In these states another triggerer has the job, or a new try, which takes care of what it finds."""

WARM_UP_AFTER_S = 20.0

ASKED_AGAIN_AFTER_S = (1.0, 2.0, 4.0, 8.0)


async def task_state(task_instance: Any) -> str | None:
    """
    Return the state of a task instance; None if it is cleared or gone.

    :raises Exception: if Airflow does not tell.
    """
    for pause in ASKED_AGAIN_AFTER_S:
        try:
            return await _ask(task_instance)
        except Exception:
            await asyncio.sleep(pause)
    return await _ask(task_instance)


async def _ask(task_instance: Any) -> str | None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    ti = task_instance
    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    # Of a mapped task the keys end in the map index.
    return next((str(state) for state in states.get(ti.run_id, {}).values() if state), None)


def warm_up(task_instance: Any) -> None:
    """
    Have the first question of this process asked before a killing has to: it takes seconds.

    It also holds up the triggerer for so long, so it waits until the first jobs may have come and gone.
    """
    loop = asyncio.get_running_loop()
    if task_instance is None or _warm.get("loop") is loop:
        return
    _warm["loop"] = loop
    _warm["task"] = loop.create_task(_ask_in_a_while(task_instance), context=contextvars.Context())


async def _ask_in_a_while(task_instance: Any) -> None:
    await asyncio.sleep(WARM_UP_AFTER_S)
    with suppress(Exception):
        await _ask(task_instance)


_warm: dict[str, Any] = {}
