from __future__ import annotations

import pytest
from progress import Task, first_failure, step_groups, step_line, step_progress


def instance(task_id: str, state: str | None, start: int | None = None, end: int | None = None) -> Task:
    def at(second: int | None) -> str | None:
        return None if second is None else f"2026-01-01T00:00:{second:02}Z"

    return {"task_id": task_id, "state": state, "start_date": at(start), "end_date": at(end), "map_index": -1}


def task(task_id: str, *downstream: str) -> Task:
    return {"task_id": task_id, "downstream_task_ids": list(downstream)}


def test_steps_come_in_the_order_in_which_they_run() -> None:
    tasks = [
        task("measure.run"),
        task("convert.run", "convert.merge"),
        task("convert.merge", "segment.run"),
        task("segment.run", "measure.run"),
    ]

    assert step_groups(tasks) == ["convert", "segment", "measure"]


def test_step_has_ended_when_all_its_tasks_have() -> None:
    (ended, running) = step_progress(
        ["a", "b"],
        [instance("a.run", "success"), instance("b.select", "success"), instance("b.run", "running")],
    )

    assert ended.has_ended
    assert not running.has_ended
    assert running.running == ["run"]


def test_step_without_tasks_yet_has_not_ended() -> None:
    (step,) = step_progress(["a"], [])

    assert not step.has_ended


@pytest.mark.parametrize(
    ("states", "line"),
    [
        (("success", "success"), "1/1 Segment  done in   7.0 s"),
        (("failed", "failed"), "1/1 Segment  failed in   7.0 s"),
        (("upstream_failed", "success"), "1/1 Segment  not run"),
    ],
)
def test_line_says_how_a_step_ended(states: tuple[str, str], line: str) -> None:
    (step,) = step_progress(["s"], [instance("s.run", states[0], 1, 5), instance("s.merge", states[1], 6, 8)])

    assert step_line(step, "1/1 Segment") == line


def test_first_failure_is_the_one_that_ended_first() -> None:
    instances = [
        instance("s.merge", "failed", 6, 8),
        instance("s.run", "failed", 1, 5),
        instance("s.select", "success", 0, 1),
        instance("t.select", "upstream_failed"),
    ]

    failed = first_failure(instances)

    assert failed is not None
    assert failed["task_id"] == "s.run"


def test_run_without_failures_has_no_first_one() -> None:
    assert first_failure([instance("s.run", "success", 1, 2)]) is None
