from __future__ import annotations

from fractal_airflow.triggers.pace import LONGEST_FAILURE_PAUSE_S, MOST_EARLY_POLLS, Pace


def poll_times(pace: Pace, until: float, *, news: bool = False) -> list[float]:
    """Poll whenever it is due; return when that was."""
    times = []
    while pace.due < until:
        times.append(pace.due)
        pace.polled(pace.due, news=news)
    return times


def test_polls_become_seldom_while_nothing_happens() -> None:
    assert poll_times(Pace(10, now=0), until=46) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5, 45.5]


def test_a_new_job_is_looked_at_soon_and_seldom_again_if_nothing_comes_of_it() -> None:
    pace = Pace(10, now=0)
    poll_times(pace, until=90)
    pace.news(92)
    assert poll_times(pace, until=130) == [93, 94, 96, 100, 108, 118, 128]


def test_a_job_that_changed_is_looked_at_again_soon() -> None:
    pace = Pace(10, now=0)
    poll_times(pace, until=90)
    last = pace.due
    pace.polled(last, news=True)
    assert pace.due == last + 1


def test_a_crowd_of_short_jobs_gets_no_more_than_twice_the_polls() -> None:
    pace = Pace(10, now=0)
    times = poll_times(pace, until=3600, news=True)
    assert len(times) <= 2 * 360 + MOST_EARLY_POLLS


def test_pauses_are_never_longer_than_the_interval() -> None:
    assert poll_times(Pace(0.2, now=0), until=0.7) == [0, 0.2, 0.4, 0.6000000000000001]


def test_a_cluster_that_does_not_answer_is_asked_ever_more_seldom() -> None:
    pace = Pace(10, now=0)
    pauses = []
    for _ in range(8):
        now = pace.due
        pace.failed(now)
        pauses.append(pace.due - now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, LONGEST_FAILURE_PAUSE_S]


def test_new_jobs_do_not_hurry_a_cluster_that_does_not_answer() -> None:
    pace = Pace(10, now=0)
    pace.failed(0, least_s=30)
    pace.news(1)
    assert pace.due == 30


def test_after_an_outage_polls_are_soon_again() -> None:
    pace = Pace(10, now=0)
    pace.failed(0)
    pace.polled(1, news=False)
    assert pace.due == 2


def test_the_end_of_a_job_that_can_be_foreseen_is_not_slept_through() -> None:
    pace = Pace(10, now=0)
    last = poll_times(pace, until=90)[-1] + 10
    pace.polled(last, news=False, ends_in_s=3.0)
    assert pace.due == last + 3


def test_nobody_asks_without_pause_because_a_job_is_about_to_end() -> None:
    pace = Pace(10, now=0)
    for now in range(100, 103):
        pace.polled(now, news=False, ends_in_s=0.0)
        assert pace.due == now + 0.5
