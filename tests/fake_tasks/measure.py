import json
import os
import signal
import time
from pathlib import Path

from task import ends_with_one_of, note_run, run


def measure(
    *,
    zarr_url,
    threshold=0,
    note="",
    method="Otsu",
    sigma=1.0,
    channel=None,
    fail_for=(),
    fail_times=0,
    fail_until="",
    kill_for=(),
    seconds=0,
    seconds_until="",
    slow_for=None,
    output=None,
    output_for=None,
    show_environment=False,
    memory_mb=0,
    memory_for=(),
):
    runs = note_run(zarr_url, f"{threshold!r} {note!r} {os.getpid()}")
    if show_environment:
        Path(zarr_url, "environment.json").write_text(json.dumps(sorted(os.environ)), encoding="utf-8")
    used = b"x" * (memory_mb << 20 if ends_with_one_of(zarr_url, memory_for) else 0)
    slow = slow_for is None or ends_with_one_of(zarr_url, slow_for)
    end = time.monotonic() + (seconds if slow else 0)
    while time.monotonic() < end and not (seconds_until and Path(seconds_until).exists()):
        time.sleep(0.02)
    del used
    mended = (fail_until and Path(fail_until).exists()) or 0 < fail_times < runs
    if ends_with_one_of(zarr_url, kill_for) and not mended:
        os.kill(os.getpid(), signal.SIGKILL)
    if ends_with_one_of(zarr_url, fail_for) and not mended:
        raise ValueError(f"{zarr_url} is out of focus")
    return next((own for end, own in (output_for or {}).items() if zarr_url.endswith(end)), output)


if __name__ == "__main__":
    run(measure)
