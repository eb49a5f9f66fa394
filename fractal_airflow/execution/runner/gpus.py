"""The GPUs of a job, shared out among the units that run at a time."""

from __future__ import annotations

from collections.abc import Mapping

# What names the devices that a process may use; SLURM sets those that a cluster's cards need.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
)  # fmt: skip

# Imported ahead of the units, torch looks for GPUs; this way it does so without taking one.
WARM_ENVIRONMENT = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


class Gpus:
    """Who of the units has which GPUs.

    :param environment: the job's own: it names all GPUs of the job.
    :param parallel: how many units run at a time.
    """

    def __init__(self, environment: Mapping[str, str], parallel: int) -> None:
        self._shares = shares(environment, parallel)
        self._users: list[set[int]] = [set() for _ in self._shares]

    def take(self, unit: int) -> dict[str, str]:
        """Return the variables that give a unit its GPUs: those with the fewest users."""
        if not self._shares:
            return {}
        self.give_back(unit)
        place = min(range(len(self._shares)), key=lambda place: len(self._users[place]))
        self._users[place].add(unit)
        return self._shares[place]

    def give_back(self, unit: int) -> None:
        """Have the GPUs of a unit that has ended for others."""
        for users in self._users:
            users.discard(unit)


def shares(environment: Mapping[str, str], parallel: int) -> list[dict[str, str]]:
    """Return the variables for each unit that can have GPUs of its own.

    >>> shares({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 2)
    [{'CUDA_VISIBLE_DEVICES': '0,1'}, {'CUDA_VISIBLE_DEVICES': '2,3'}]
    """
    devices = {name: environment[name].split(",") for name in _VARIABLES if environment.get(name)}
    count = min((len(names) for names in devices.values()), default=0)
    each = max(1, count // parallel)
    return [
        {name: ",".join(names[first : first + each]) for name, names in devices.items()}
        for first in range(0, count - each + 1, each)
    ]
