"""A real task of fractal-tasks-core gives the same label image, however it is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.task_environments import PROJECT, core_tasks
from tests.unit.execution.batches import run_batch

MAKE_IMAGES = PROJECT / "benchmarks" / "programs" / "make_images.py"
COUNT = 4

COMPARE = """
import sys
import numpy as np
from ngio import open_ome_zarr_container
one, other = (open_ome_zarr_container(url).get_label("DAPI_segmented").get_as_numpy() for url in sys.argv[1:])
assert np.array_equal(one, other)
print(len(np.unique(one)))
"""


def test_a_warm_unit_gives_the_same_label_image_as_a_process_of_its_own(tmp_path: Path) -> None:
    environment = core_tasks()
    images = {}
    for how in ("warm", "cold"):
        images[how] = [str(tmp_path / how / f"{index}.zarr") for index in range(COUNT)]
        subprocess.run([environment.python, MAKE_IMAGES, tmp_path / how, str(COUNT)], check=True)
        channel = {"mode": "label", "identifier": "DAPI"}
        ran = run_batch(
            tmp_path / "work" / how,
            [{"zarr_url": url, "channel": channel} for url in images[how]],
            command=environment.command("threshold_segmentation.py"),
            parallel=2,
            warm_start=how == "warm",
        )
        assert ran.statuses == ["done"] * COUNT
        assert ran.runner_log == ""
        assert "successfully created" in ran.log(COUNT - 1)
    last = COUNT - 1
    compared = subprocess.run(
        [environment.python, "-c", COMPARE, images["warm"][last], images["cold"][last]],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(compared.stdout) > 20
