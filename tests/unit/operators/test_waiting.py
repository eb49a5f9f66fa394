from __future__ import annotations

import time
from datetime import timedelta

from fractal_airflow.operators.waiting import Waiting


def test_pauses_grow_to_five_minutes() -> None:
    waiting, pauses = Waiting(), []
    for _ in range(9):
        waiting, until = waiting.paused(0)
        assert abs(until - time.time() - waiting.pause_s) < 1
        pauses.append(waiting.pause_s)

    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_cluster_may_ask_for_a_longer_pause() -> None:
    assert Waiting().paused(30)[0].pause_s == 30


def test_no_pause_is_longer_than_the_time_that_is_left() -> None:
    waiting = Waiting.until(timedelta(seconds=2))

    assert waiting.paused(30)[1] == waiting.deadline
    assert not waiting.is_over
    assert Waiting(deadline=time.time() - 1).is_over


def test_it_is_the_same_after_a_journey() -> None:
    waiting = Waiting.until(timedelta(hours=1)).paused(7)[0].started_over()

    assert Waiting(**waiting.to_json()) == waiting


def test_a_job_is_not_submitted_again_without_end() -> None:
    waiting = Waiting()
    for _ in range(3):
        assert waiting.may_start_over
        waiting = waiting.started_over()

    assert not waiting.may_start_over
