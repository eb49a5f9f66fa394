"""What watching a folder costs: thousands of plates that were reported, and one that grows.

Run it as ``python -m benchmarks.watch_folder``. It takes the CPU time of one round (the scan, and what it means to a
watcher) over 1000 folders that were reported and over ten times as many, and the CPU time of a process in which
triggers watch them, per poll: one trigger, and ten that share the scan. Then a plate of 100 000 files grows for an
hour of made-up time: how often it is walked through, and what that costs. ``--folders 1000`` tries it with fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from airflow.triggers.shared_stream import SharedStreamManager

from fractal_airflow.triggers import acquisitions_scan
from fractal_airflow.triggers.acquisitions import NewAcquisitionTrigger
from fractal_airflow.triggers.acquisitions_rules import Known, Reported, Watch
from fractal_airflow.triggers.acquisitions_scan import Rule, Scanner, Wish

FOLDERS, FILES = 10_000, 100_000
ROUNDS = 20
POLL_S, WINDOW_S = 0.5, 10.0
GROWING_POLL_S, GROWING_S = 30.0, 3600.0
LONG_AGO = 1_000_000_000


class Store(dict[str, Any]):
    """An asset's state store in memory."""

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folders", type=int, default=FOLDERS)
    parser.add_argument("--files", type=int, default=FILES)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        few, many = Path(scratch, "few"), Path(scratch, "many")
        few_ms = time_rounds(make_folders(few, args.folders // 10))
        many_ms = time_rounds(make_folders(many, args.folders))
        print(f"a round over {args.folders // 10} reported folders: {few_ms:.2f} ms")
        print(
            f"a round over {args.folders} reported folders: {many_ms:.2f} ms, {many_ms / few_ms:.1f} times that"
        )
        one, ten = (asyncio.run(cpu_of_polls(many, watchers)) for watchers in (1, 10))
        print(
            f"CPU of a poll of {args.folders}, one watcher: {one:.1f} ms; ten: {ten:.1f} ms, {ten / one:.1f} times"
        )
        grow(make_plate(Path(scratch, "growing"), args.files))


def make_folders(folder: Path, number: int) -> Path:
    for index in range(number):
        plate = folder / f"2026-11-21_screen_{index:05}"
        plate.mkdir(parents=True)
        os.utime(plate, (LONG_AGO, LONG_AGO))
    return folder


def make_plate(folder: Path, files: int) -> Path:
    for index in range(files):
        if index % 1000 == 0:
            (folder / "plate" / f"{index // 1000}").mkdir(parents=True)
        (folder / "plate" / f"{index // 1000}" / f"{index}.tif").touch()
    return folder


def time_rounds(folder: Path) -> float:
    """Return the median CPU time of a round in which all is known, in ms."""
    scanner, reported = Scanner(str(folder)), Reported(time.time())
    reported.add({name: Known(inode, time.time()) for name, inode in scanner.scan().folders.items()})
    watch = Watch("*", Rule("done", 0.0), 1.0, reported)
    wishes = watch.judge(scanner.scan(), 0.0).wishes
    watch.judge(scanner.scan(wishes), 0.0)  # the first rounds also ask for the times of all
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        judgement = watch.judge(scanner.scan(), 1.0)
        times.append(time.process_time() - started)
        assert not judgement.wishes
        assert not judgement.found
    return statistics.median(times) * 1000


async def cpu_of_polls(folder: Path, watchers: int) -> float:
    """Return the CPU time of one poll, in ms, with triggers in a triggerer's shared streams."""
    manager, tasks = SharedStreamManager(), []
    for number in range(watchers):
        trigger = NewAcquisitionTrigger(folder=folder, marker="done", poll_interval=POLL_S)
        store = Store()
        trigger.asset_state_store = store  # type: ignore[assignment]
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=trigger.shared_stream_key())
        tasks.append(asyncio.create_task(drain(trigger, stream)))
    await asyncio.sleep(WINDOW_S / 2)
    polls, cpu = count_scans(), time.process_time()
    await asyncio.sleep(WINDOW_S)
    spent = time.process_time() - cpu
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await manager.stop_all()
    return spent / max(1, len(polls)) * 1000


async def drain(trigger: NewAcquisitionTrigger, stream: Any) -> None:
    async for _ in trigger.filter_shared_stream(stream):
        pass


def count_scans() -> list[float]:
    """Return a list that gets the time of every scan from now on."""
    scans: list[float] = []
    scan = acquisitions_scan.list_folders

    def counted(folder: str) -> Any:
        scans.append(time.monotonic())
        return scan(folder)

    acquisitions_scan.list_folders = counted
    return scans


def grow(folder: Path) -> None:
    """Let a plate get a file with every poll, for an hour of made-up time."""
    walks: list[float] = []
    walk = acquisitions_scan.walk

    def timed(path: str) -> acquisitions_scan.Walk:
        started = time.perf_counter()
        found = walk(path)
        walks.append(time.perf_counter() - started)
        return found

    acquisitions_scan.walk = timed
    now, wish = 0.0, Wish("plate", Rule(None, 600.0))
    scanner = Scanner(str(folder), clock=lambda: now)
    started = time.process_time()
    for step in range(int(GROWING_S / GROWING_POLL_S)):
        (folder / "plate" / "0" / f"new_{step}.tif").touch()
        scanner.scan([wish])
        now += GROWING_POLL_S
    spent = time.process_time() - started
    print(
        f"a plate that grows for {GROWING_S:.0f} s, looked at every {GROWING_POLL_S:.0f} s: {len(walks)} walks of "
        f"{statistics.median(walks):.2f} s, {spent / GROWING_S:.2%} of a core"
    )
    walks.clear()
    while scanner.scan([wish]).sights[wish].completed_at is None:
        now += GROWING_POLL_S
    print(f"and then it is still: complete after {now - GROWING_S:.0f} s, with {len(walks)} walks")


if __name__ == "__main__":
    main()
