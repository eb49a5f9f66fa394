"""How a workflow on a real SLURM cluster stands faults at random moments, and how often.

Run it as ``python -m benchmarks.chaos --rounds 30 --seed 1``; as root, since it starts a cluster of three nodes on
this machine, with a login node and an Airflow. In each round a run on four images in two jobs is disturbed once or
twice: processes of Airflow are killed or frozen, connections are cut, daemons of the cluster stop, freeze or die. It
must come to the same image list as an undisturbed run, with exactly one job a batch, and none left over. Ends with
a tally; the exit code is 1 where a round did not.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.cluster.runs import running
from tests.services.chaos import run_rounds, tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rounds = []
    with running({}) as site:
        for each in run_rounds(site, rounds=options.rounds, seed=options.seed):
            print(each, flush=True)
            rounds.append(each)
    print(tally(rounds))
    return any(each.problem for each in rounds)


if __name__ == "__main__":
    sys.exit(main())
