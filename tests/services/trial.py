"""One run of a workflow on the cluster that is disturbed on its way, and what must have come of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.services.daemons import command_line
from tests.services.site import RESOURCE, Site
from tests.services.slurm import Job

WELLS = ("B/03", "B/04", "C/03", "C/04")
STEP = "0_measure"
BATCHES = 2


class Trial:
    """
    A workflow of one task on four images in two jobs.

    Its units wait until :meth:`finish`, so that a fault meets them in the middle.
    """

    def __init__(self, site: Site, name: str) -> None:
        """:param name: the name of the DAG, and of the dataset."""
        self.site = site
        self.airflow = site.airflow
        self.cluster = site.cluster
        self.name = name
        self.run_id = ""
        self.home = site.home(name)
        self.go_on = self.home.data / "go_on"
        self.urls = site.add_images(self.home, *WELLS, dataset=name, is_3D=True)

    def start(
        self,
        *,
        wait: bool = True,
        args: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        **options: Any,
    ) -> Trial:
        """
        Trigger the run, and wait until both of its jobs run.

        :param wait: whether to wait.
        :param args: more arguments of the task.
        :param meta: its ``meta``.
        :param options: of the DAG.
        """
        found = {
            f"{well}/0": {"image_list_updates": [{"zarr_url": url, "attributes": {"seen": well}}]}
            for well, url in zip(WELLS, self.urls, strict=True)
        }
        arguments = {"seconds": 600, "seconds_until": str(self.go_on), "output_for": found, **(args or {})}
        options = {
            "resource": RESOURCE,
            "dataset": self.name,
            "images_per_batch": len(WELLS) // BATCHES,
            "default_args": {"retry_delay": 0},
            **options,
        }
        task = {"name": "Measure", "args_parallel": arguments, "meta_parallel": meta or {}}
        self.home.write_fractal_dag(self.name, task, **options)
        self.run_id = self.airflow.trigger(self.name)
        if wait:
            self.wait_until_it_runs()
        return self

    def wait_until_it_runs(self, batches: int = BATCHES) -> None:
        """Wait until jobs run, and Airflow waits for them."""
        self.wait("all jobs run", lambda: len(self.running()) == batches)
        self.wait("units run", lambda: sum(map(bool, self.measured())) >= batches)
        self.wait("Airflow waits for them", lambda: self.waiting() == batches)

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = 90) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                said = f"In {timeout_s:.0f} s it did not come to this: {what}"
                raise AssertionError(f"{said}\n{self.jobs()}\n{self.log()}")
            time.sleep(0.1)

    # What is going on

    @property
    def part(self) -> str:
        """What the folders of this run's jobs have in them, and no other run's."""
        return f"/{self.name}/"

    def jobs(self) -> list[Job]:
        return self.cluster.queue(self.part)

    def running(self) -> list[Job]:
        return [job for job in self.jobs() if job.state == "RUNNING"]

    def live(self) -> list[Job]:
        return self.cluster.live(self.part)

    def states(self) -> list[str]:
        """The states of the mapped instances that run units."""
        return [str(each["state"]) for each in self._instances()]

    def waiting(self) -> int:
        """How many instances have a trigger that runs: before, no trigger can cancel what a user kills."""
        instances = self._instances()
        logs = [
            f"map_index={each['map_index']}/attempt={each['try_number']}.log.trigger.*" for each in instances
        ]
        started = [any(self._logs(f"{STEP}.run").glob(log)) for log in logs]
        states = [each["state"] == "deferred" for each in instances]
        return sum(map(all, zip(states, started, strict=True)))

    def tries(self) -> list[int]:
        """How often each of the mapped instances that run units was tried."""
        return [int(each["try_number"]) for each in self._instances()]

    def _instances(self) -> list[dict[str, Any]]:
        instances = sorted(self.airflow.instances(self.name, self.run_id).items())
        return [each for (task, index), each in instances if task == f"{STEP}.run" and index >= 0]

    def triggerers(self) -> set[int]:
        """The triggerers that have the triggers of this run."""
        instances = self.airflow.instances(self.name, self.run_id).values()
        return {each["triggerer_job"]["id"] for each in instances if each.get("triggerer_job")}

    def measured(self) -> list[int]:
        """How often each image was measured."""
        return self.home.measured(*WELLS)

    def task_processes(self, task: str = f"{STEP}.run") -> list[int]:
        """The processes in which Airflow executes instances of a task of this run."""
        instances = self.airflow.instances(self.name, self.run_id)
        titles = {f"airflow worker -- {each['id']}" for (name, _), each in instances.items() if name == task}
        family = self.airflow.components["scheduler"].family()
        return [pid for pid in family if command_line(pid) in titles]

    def log(self, task: str = f"{STEP}.run", map_index: int | None = None) -> str:
        """What the log of a task says, of all of its tries and instances, or of one instance."""
        index = "*" if map_index is None else str(map_index)
        folder = self._logs(task)
        files = [*folder.glob(f"map_index={index}/*"), *folder.glob("attempt=*")]
        return "\n".join(f"--- {path.parent.name}/{path.name}\n{_events(path)}" for path in sorted(files))

    def _logs(self, task: str) -> Path:
        run = self.home.home / "logs" / f"dag_id={self.name}" / f"run_id={self.run_id}"
        return run / f"task_id={task}"

    # The end

    def finish(self, *, timeout_s: float = 180, state: str = "success") -> None:
        """Let the units go on, wait until the run has ended, and check how."""
        self.go_on.touch()
        ended = self.airflow.wait_for_end(self.name, self.run_id, timeout_s)
        assert ended == state, f"{self.log()}\n{self.airflow.logs()}"

    def images(self) -> Any:
        """The final image list, the same for two runs that came to the same."""
        return plain(self.home.store.export(self.name), self.home.data)

    def submissions(self) -> list[int]:
        """How many jobs each batch had that had any, the job log is asked."""
        return sorted(
            Counter(batch_of(folder) for folder in self.cluster.submitted(self.part).values()).values()
        )

    def check(self, expected: Any, *, submissions: list[int] | None = None) -> None:
        """
        Check that a disturbed run came to the same as an undisturbed one.

        :param expected: the image list of the undisturbed one.
        :param submissions: how many jobs each batch had; default: one.
        """
        assert self.images() == expected, f"{self.images()} is not {expected}\n{self.log()}"
        assert self.submissions() == (submissions or [1] * BATCHES), self.log()
        assert self.live() == []


def _events(path: Path) -> str:
    said = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"event": line}
        text = f"{entry.get('timestamp', '')[11:19]} {entry.get('level', ''):7} {entry.get('event', '')}"
        said.append(text[:600] + str(entry.get("error_detail", ""))[:3000])
    return "\n".join(said)


def plain(data: Any, folder: Path) -> Any:
    """Return JSON data in one order, without what differs from run to run: folder and dataset's name."""
    if isinstance(data, dict):
        skipped = ("name", "zarr_dir", "version")
        return {key: plain(value, folder) for key, value in sorted(data.items()) if key not in skipped}
    if isinstance(data, list):
        return sorted((plain(value, folder) for value in data), key=repr)
    return data.replace(str(folder), "DATA") if isinstance(data, str) else data


def batch_of(attempt_folder: str) -> str:
    """Return the batch's folder of an attempt's."""
    return str(Path(attempt_folder).parent)
