"""Faults at random moments: runs on a real cluster that are disturbed, over and over, and what came of them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.services.daemons import kill_all
from tests.services.site import Site
from tests.services.trial import BATCHES, STEP, Trial

MOMENT_S = 10.0  # an undisturbed run takes about as long
OUTAGE_S = 8.0
MOST_FAULTS = 2
UNIT_SECONDS = 2
END_S = 300.0
TASKS = ("select", "run", "merge")


@dataclass(frozen=True)
class Round:
    """A disturbed run: what befell it, how long it took, and what was wrong with its end, if anything."""

    number: int
    faults: tuple[str, ...]
    seconds: float
    problem: str = ""

    def __str__(self) -> str:
        end = f"FAILED: {self.problem}" if self.problem else "same images, one job a batch, none left"
        return f"round {self.number} ({self.seconds:.0f} s): {'; '.join(self.faults)}: {end}"


def run_rounds(site: Site, *, rounds: int, seed: int) -> Iterator[Round]:
    """
    Disturb runs, one after the other; each is given back with all of the site running again.

    :param seed: the same seed disturbs in the same ways at the same moments.
    """
    expected = _undisturbed(site, f"chaos_{seed}_undisturbed")
    for number in range(1, rounds + 1):
        rng = random.Random(f"{seed}-{number}")
        yield _round(site, rng, number, Trial(site, f"chaos_{seed}_{number}"), expected)
        site.mend()


def tally(rounds: list[Round]) -> str:
    """Return how often each fault was survived, as a table."""
    kind = [(fault.partition(" at ")[0], not each.problem) for each in rounds for fault in each.faults]
    all_of, well = Counter(name for name, _ in kind), Counter(name for name, ok in kind if ok)
    lines = [f"{name:28} {well[name]:3} of {count:3} survived" for name, count in sorted(all_of.items())]
    good = sum(not each.problem for each in rounds)
    return "\n".join([*lines, f"{good} of {len(rounds)} rounds ended as an undisturbed run does"])


def _undisturbed(site: Site, name: str) -> Any:
    trial = _start(Trial(site, name))
    trial.finish()
    trial.check(trial.images())
    return trial.images()


def _start(trial: Trial) -> Trial:
    # Killed, a select or a merge is tried again only where the DAG says so.
    options = {"default_args": {"retries": 5, "retry_delay": 0}}
    return trial.start(wait=False, args={"seconds": UNIT_SECONDS}, **options)


def _round(site: Site, rng: random.Random, number: int, trial: Trial, expected: Any) -> Round:
    moments = sorted(rng.uniform(0, MOMENT_S) for _ in range(rng.randint(1, MOST_FAULTS)))
    names = [rng.choice(sorted(FAULTS)) for _ in moments]
    outages = [rng.uniform(0, OUTAGE_S) for _ in moments]
    _start(trial)
    started = time.monotonic()
    faults = []
    for moment, name, outage in zip(moments, names, outages, strict=True):
        time.sleep(max(0, started + moment - time.monotonic()))
        faults.append(f"{name} at {time.monotonic() - started:.1f} s{FAULTS[name](trial, rng, outage)}")
    problem = ""
    try:
        ended = trial.airflow.wait_for_end(trial.name, trial.run_id, END_S)
        assert ended == "success", f"the run ended as {ended}"
        trial.check(expected, submissions=[1] * BATCHES)
    except AssertionError as error:
        problem = f"{error}\n{trial.log()}"
    return Round(number, tuple(faults), time.monotonic() - started, problem)


# The faults: each is over when its function returns what else is to say of it.


def _kill_task(trial: Trial, rng: random.Random, outage_s: float) -> str:
    for _ in range(100):
        pids = [pid for task in TASKS for pid in trial.task_processes(f"{STEP}.{task}")]
        if pids:
            kill_all([rng.choice(pids)])
            return ""
        time.sleep(0.1)
    return " (there was none)"


def _kill(component: str) -> Callable[[Trial, random.Random, float], str]:
    def kill(trial: Trial, rng: random.Random, outage_s: float) -> str:
        trial.airflow.kill(component)
        time.sleep(outage_s)
        trial.airflow.start(component)
        return f" for {outage_s:.1f} s"

    return kill


def _freeze_triggerer(trial: Trial, rng: random.Random, outage_s: float) -> str:
    trial.airflow.freeze("triggerer")
    time.sleep(outage_s)
    trial.airflow.thaw("triggerer")
    return f" for {outage_s:.1f} s"


def _cut(trial: Trial, rng: random.Random, outage_s: float) -> str:
    trial.site.login_node.drop_connections()
    return ""


def _stop_sshd(trial: Trial, rng: random.Random, outage_s: float) -> str:
    trial.site.login_node.stop()
    time.sleep(outage_s)
    trial.site.login_node.start()
    return f" for {outage_s:.1f} s"


def _stop_slurmctld(trial: Trial, rng: random.Random, outage_s: float) -> str:
    trial.cluster.stop_controller()
    time.sleep(outage_s)
    trial.cluster.start_controller()
    return f" for {outage_s:.1f} s"


def _freeze_slurmctld(trial: Trial, rng: random.Random, outage_s: float) -> str:
    with trial.cluster.frozen_controller():
        time.sleep(2 * outage_s)
    return f" for {2 * outage_s:.1f} s"


def _kill_node(trial: Trial, rng: random.Random, outage_s: float) -> str:
    name = rng.choice(sorted(trial.cluster.nodes))
    trial.cluster.kill_node(name)
    time.sleep(outage_s)
    trial.cluster.start_node(name, wait=False)
    return f" ({name}) for {outage_s:.1f} s"


FAULTS: dict[str, Callable[[Trial, random.Random, float], str]] = {
    "task process killed": _kill_task,
    "triggerer killed": _kill("triggerer"),
    "triggerer frozen": _freeze_triggerer,
    "scheduler killed": _kill("scheduler"),
    "SSH connections cut": _cut,
    "sshd stopped": _stop_sshd,
    "slurmctld stopped": _stop_slurmctld,
    "slurmctld frozen": _freeze_slurmctld,
    "node killed": _kill_node,
}
