"""Faults at random moments; ``python -m benchmarks.chaos`` has more rounds of it."""

from __future__ import annotations

import os

from tests.services.chaos import run_rounds
from tests.services.site import Site

ROUNDS = 3
SEED = int(os.environ.get("FRACTAL_TESTS_SEED", "3"))


def test_runs_that_are_disturbed_at_random_moments_end_as_others_do(site: Site) -> None:
    for each in run_rounds(site, rounds=ROUNDS, seed=SEED):
        assert not each.problem, f"seed {SEED}, {each}"
