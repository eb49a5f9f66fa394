"""Several processes on one dataset: nothing is lost, and a killed merge leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier, Event
from typing import overload

import pytest

from fractal_airflow.dataset import DatasetStore, ImageStatus
from fractal_airflow.fractal.images import Image
from tests.unit.dataset.changes import ZARR_DIR, add, image, plate, set_type, step, urls

spawn = multiprocessing.get_context("spawn")


def merge_often(url: str, run_id: str, count: int, barrier: Barrier) -> None:
    store = DatasetStore(url)
    barrier.wait()
    for number in range(count):
        name = f"{run_id}_{number}"
        statuses = [ImageStatus(f"{ZARR_DIR}/{name}", "done")]
        store.merge("plate", step(number, run_id), add(name), statuses)


def test_two_processes_that_merge_at_once_lose_nothing(store: DatasetStore, store_url: str) -> None:
    plate(store, "a")
    barrier = spawn.Barrier(2)
    runs = [spawn.Process(target=merge_often, args=(store_url, f"run{n}", 20, barrier)) for n in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()

    assert [run.exitcode for run in runs] == [0, 0]
    names = urls(store.images("plate"))
    assert sorted(names) == sorted(["a", *(f"run{n}_{i}" for n in range(2) for i in range(20))])
    for n in range(2):  # and each run's own images in the order in which it added them
        assert [name for name in names if name.startswith(f"run{n}")] == [f"run{n}_{i}" for i in range(20)]
    assert [version.version for version in store.versions("plate")] == list(range(1, 42))
    assert len(store.statuses("plate", latest=False)) == 40


def test_two_threads_that_edit_the_same_image_lose_nothing(store: DatasetStore) -> None:
    plate(store, "a")

    def edit(run_id: str) -> None:
        for number in range(10):
            store.merge("plate", step(number, run_id), set_type("a", **{f"{run_id}_{number}": True}))

    threads = [threading.Thread(target=edit, args=(f"run{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.images("plate")[0].types) == 20


def create_once(url: str, barrier: Barrier) -> None:
    store = DatasetStore(url)
    store.list_datasets()
    barrier.wait()
    for number in range(20):
        store.get_or_create(f"plate {number}", ZARR_DIR)


def test_processes_that_create_the_same_dataset_at_once_agree(store: DatasetStore, store_url: str) -> None:
    barrier = spawn.Barrier(3)
    processes = [spawn.Process(target=create_once, args=(store_url, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [one.version for one in store.list_datasets()] == [1] * 20


class Hanging(Sequence[ImageStatus]):
    """Statuses that are never ready. They are read after the images were written, before the commit."""

    def __init__(self, reached: Event) -> None:
        self._reached = reached

    @overload
    def __getitem__(self, index: int) -> ImageStatus: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageStatus]: ...
    def __getitem__(self, index: int | slice) -> ImageStatus | Sequence[ImageStatus]:
        raise IndexError

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[ImageStatus]:
        self._reached.set()
        time.sleep(600)
        return iter(())


def hang_in_change(url: str, reached: Event) -> None:
    def change(images: list[Image], removed: frozenset[str]) -> list[Image]:
        reached.set()
        time.sleep(600)
        return images

    DatasetStore(url).merge("plate", step(), change)


def hang_before_commit(url: str, reached: Event) -> None:
    new = [image(f"new_{number}") for number in range(20_000)]
    DatasetStore(url).merge("plate", step(), lambda images, removed: new, Hanging(reached))


@pytest.mark.parametrize("hang", [hang_in_change, hang_before_commit])
def test_a_merge_that_is_killed_leaves_the_dataset_as_it_was(
    store: DatasetStore, store_url: str, hang: object
) -> None:
    plate(store, "a", "b")
    before = store.get("plate")
    reached = spawn.Event()
    process = spawn.Process(target=hang, args=(store_url, reached))  # type: ignore[arg-type]
    process.start()
    assert reached.wait(60)
    assert store.images("plate") == [image("a"), image("b")]  # readers do not wait for a writer

    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()

    assert (store.get("plate"), urls(store.images("plate"))) == (before, ["a", "b"])
    assert store.merge("plate", step(), add("c")).version == 2
