"""Pausing the garbage collector, and leaving it as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fractal_airflow.collector import collector_paused


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    if not was_enabled:
        gc.disable()


def test_the_collector_rests_inside_the_block_alone() -> None:
    with collector_paused():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_blocks_may_be_nested() -> None:
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()

    assert gc.isenabled()


def test_an_error_starts_the_collector_again() -> None:
    with pytest.raises(KeyError), collector_paused():
        raise KeyError

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()

    with collector_paused():
        pass

    assert not gc.isenabled()


def test_a_function_may_be_decorated_and_call_itself() -> None:
    @collector_paused()
    def rests(depth: int) -> bool:
        return not gc.isenabled() and (depth == 0 or rests(depth - 1))

    assert rests(2)
    assert gc.isenabled()
