import os
import signal
import time
from pathlib import Path

from task import ends_with_one_of, run


def measure(
    *, zarr_url, threshold=0, note="", fail_for=(), fail_until="", kill_for=(), seconds=0, output=None
):
    with Path(zarr_url, "runs.txt").open("a", encoding="utf-8") as runs:
        runs.write(f"{threshold} {note}\n")
    time.sleep(seconds)
    if ends_with_one_of(zarr_url, kill_for):
        os.kill(os.getpid(), signal.SIGKILL)
    if ends_with_one_of(zarr_url, fail_for) and not (fail_until and Path(fail_until).exists()):
        raise ValueError(f"{zarr_url} is out of focus")
    return output


if __name__ == "__main__":
    run(measure)
