"""Bulk work without Python's cyclic garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """
    Keep the cyclic garbage collector from running inside this block, or inside the function it decorates.

    Building a list of a million images makes a few million objects and not one cycle among them. The
    collector cannot know that: it visits all of them again and again while they grow in number, which
    doubles the time. Reference counting goes on freeing what is no longer used.

    The collector belongs to the whole process, so keep blocks short. It is left as it was found; blocks may
    be nested, and where threads overlap, the first to leave may start it again early, which costs time only.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
