"""The trigger in the triggerer's own machinery of shared streams, with a state store that is a dictionary."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.shared_stream import SharedStreamManager

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.triggers import acquisitions_stream
from fractal_airflow.triggers.acquisitions import NewAcquisitionTrigger
from fractal_airflow.triggers.acquisitions_memory import PART_BYTES, Memory
from fractal_airflow.triggers.acquisitions_rules import Known
from fractal_airflow.triggers.acquisitions_scan import Scanner

LONG_AGO = 1_000_000_000

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Store(dict[str, str]):
    """The state store of an asset, which holds JSON."""

    broken = False
    in_use = True

    async def aget(self, key: str, default: Any = None) -> Any:
        await asyncio.sleep(0.001)
        if self.broken:
            raise RuntimeError("the database is away")
        return json.loads(self[key]) if self.in_use and key in self else default

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        if self.broken or not self.in_use:
            raise RuntimeError("the database is away")
        self[key] = json.dumps(value)


class Triggerer:
    """What a triggerer does with triggers that share a stream; it stores events, and confirms that, if it can."""

    def __init__(self) -> None:
        self.manager = SharedStreamManager()
        self.stores_events = True
        self.events: list[dict[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, trigger: NewAcquisitionTrigger, store: Store) -> None:
        # As it comes out of the database.
        again = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
        again.asset_state_store = store  # type: ignore[assignment]
        self.tasks.append(asyncio.create_task(self._run(again, number=len(self.tasks))))

    async def _run(self, trigger: NewAcquisitionTrigger, number: int) -> None:
        key = trigger.shared_stream_key()
        try:
            stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
            async for event in trigger.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self.events.append(event.payload)
                if self.stores_events and seq is not None:
                    asyncio.get_running_loop().call_later(0.01, self.manager.confirm_persisted, [seq])
        finally:
            await self.manager.unsubscribe(number, key)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def names(self) -> list[str]:
        return [event["name"] for event in self.events]


@asynccontextmanager
async def triggerer(*watchers: tuple[NewAcquisitionTrigger, Store]) -> AsyncIterator[Triggerer]:
    """A triggerer with triggers of assets; it has no time to end well."""
    running = Triggerer()
    for trigger, store in watchers:
        running.start(trigger, store)
    try:
        yield running
    finally:
        await running.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def saved(store: Store) -> set[str]:
    """Return the folders that a store has as reported."""
    return {name for key, value in store.items() if key[-1].isdigit() for name in json.loads(value)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The watched folder."""
    folder = tmp_path / "acquisitions"
    folder.mkdir()
    return folder


@pytest.fixture
def trigger(folder: Path) -> NewAcquisitionTrigger:
    return NewAcquisitionTrigger(folder=folder, marker="done", poll_interval=0.01)


def make_plate(folder: Path, name: str, *, complete: bool = True) -> Path:
    plate = folder / name
    plate.mkdir()
    (plate / "1.tif").touch()
    if complete:
        (plate / "done").touch()
    return plate


def test_a_watcher_of_an_asset(trigger: NewAcquisitionTrigger, folder: Path) -> None:
    asset = Asset("plates", watchers=[AssetWatcher("plates", trigger)])
    path, kwargs = trigger.serialize()

    assert asset.watchers[0].trigger is trigger
    assert path == "fractal_airflow.triggers.acquisitions.NewAcquisitionTrigger"
    assert NewAcquisitionTrigger(**kwargs).serialize() == (path, kwargs)
    assert kwargs["quiet_minutes"] == 0.0
    assert NewAcquisitionTrigger(folder=folder).quiet_minutes == 10.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"folder": "acquisitions"},
        {"pattern": ""},
        {"pattern": "a/b"},
        {"quiet_minutes": 0},
        {"quiet_minutes": -1, "marker": "done"},
        {"poll_interval": 0},
        {"existing_days": -1},
        {"marker": "/done"},
        {"marker": "../done"},
        {"marker": "*/done"},
        {"marker": ""},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match=next(iter(arguments))):
        NewAcquisitionTrigger(**{"folder": "/data", **arguments})


async def test_each_plate_is_one_event(trigger: NewAcquisitionTrigger, folder: Path) -> None:
    store = Store()
    plate = make_plate(folder, 'it\'s "é"\n板')
    os.utime(plate / "done", (LONG_AGO, LONG_AGO))
    make_plate(folder, "half", complete=False)
    async with triggerer((trigger, store)) as running:
        await until(lambda: running.events)
        await until(lambda: saved(store))
        make_plate(folder, "second")
        await until(lambda: len(running.events) > 1)

    first, second = running.events
    assert (first["folder"], first["name"]) == (str(plate), plate.name)
    assert first["completed_at"] == "2001-09-09T01:46:40+00:00"
    assert second["name"] == "second"
    assert first["id"] != second["id"]


async def test_nothing_is_reported_again_after_a_restart(
    trigger: NewAcquisitionTrigger, folder: Path
) -> None:
    store = Store()
    make_plate(folder, "before")
    async with triggerer((trigger, store)) as running:
        await until(lambda: saved(store) == {"before"})
    make_plate(folder, "meanwhile")
    async with triggerer((trigger, store)) as again:
        await until(lambda: saved(store) == {"before", "meanwhile"})

    assert running.names() == ["before"]
    assert again.names() == ["meanwhile"]


async def test_an_event_that_was_not_stored_comes_again_with_the_same_id(
    trigger: NewAcquisitionTrigger, folder: Path
) -> None:
    store = Store()
    make_plate(folder, "plate")
    async with triggerer((trigger, store)) as dying:
        dying.stores_events = False
        await until(lambda: dying.events)
        await asyncio.sleep(0.1)
        assert saved(store) == set()
    async with triggerer((trigger, store)) as again:
        await until(lambda: saved(store) == {"plate"})

    assert again.events == dying.events


async def test_watchers_of_a_folder_share_its_scans(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanners: list[str] = []
    monkeypatch.setattr(
        acquisitions_stream, "Scanner", lambda folder: scanners.append(folder) or Scanner(folder)
    )
    stores = [Store(), Store(), Store()]
    triggers = [
        NewAcquisitionTrigger(folder=path, pattern=pattern, marker="done", poll_interval=0.01)
        for path, pattern in [(folder, "a*"), (f"{folder}/", "b*"), (folder, "*")]
    ]
    for name in ("a", "b"):
        make_plate(folder, name)
    async with triggerer(*zip(triggers, stores, strict=True)) as running:
        await until(lambda: [saved(store) for store in stores] == [{"a"}, {"b"}, {"a", "b"}])

    assert sorted(running.names()) == ["a", "a", "b", "b"]
    assert scanners == [str(folder)]


async def test_many_at_once_come_in_order_some_at_a_time(
    trigger: NewAcquisitionTrigger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger.poll_interval = 3600
    for number in range(50):
        done = make_plate(folder, f"plate_{number}") / "done"
        os.utime(done, (LONG_AGO - number, LONG_AGO - number))
    store = Store()
    async with triggerer((trigger, store)) as running:
        await until(lambda: len(saved(store)) == 50)

    assert running.names() == [f"plate_{number}" for number in reversed(range(50))]


async def test_two_triggerers_at_once_tell_each_other(trigger: NewAcquisitionTrigger, folder: Path) -> None:
    """As when one was frozen, and another took its triggers."""
    store = Store()
    async with triggerer((trigger, store)) as one, triggerer((trigger, store)) as other:
        await until(lambda: len(store) == 2)
        make_plate(folder, "plate")
        await until(lambda: saved(store) == {"plate"})
        await asyncio.sleep(0.1)

    assert set(one.names() + other.names()) == {"plate"}
    assert len({event["id"] for event in one.events + other.events}) == 1


class TestTrouble:
    async def test_a_folder_that_vanishes_is_waited_for_and_nothing_is_forgotten(
        self, trigger: NewAcquisitionTrigger, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        store = Store()
        make_plate(folder, "first")
        async with triggerer((trigger, store)) as running:
            await until(lambda: saved(store) == {"first"})
            folder.rename(folder.parent / "away")
            await until(lambda: "cannot be read" in caplog.text)
            await asyncio.sleep(0.1)
            (folder.parent / "away").rename(folder)
            await until(lambda: "can be read again" in caplog.text)
            make_plate(folder, "second")
            await until(lambda: saved(store) == {"first", "second"})

        assert running.names() == ["first", "second"]
        assert caplog.text.count("cannot be read") == 1
        assert str(folder) in caplog.text

    async def test_a_file_server_that_hangs_stops_nothing_else(
        self,
        trigger: NewAcquisitionTrigger,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        answers, calls = threading.Event(), []

        def hang(scanner: Scanner, wishes: Any = ()) -> Any:
            calls.append(threading.current_thread())
            answers.wait()
            return scan(scanner, wishes)

        scan = Scanner.scan
        monkeypatch.setattr(Scanner, "scan", hang)
        monkeypatch.setattr(acquisitions_stream, "PATIENCE_S", 0.01)
        make_plate(folder, "plate")
        async with triggerer((trigger, Store())) as running:
            await until(lambda: "has not answered" in caplog.text)
            await asyncio.sleep(0.1)
            assert len(calls) == 1
            assert calls[0].daemon
            answers.set()
            await until(lambda: running.names() == ["plate"])

    async def test_names_that_are_no_text_are_said_once_and_left_out(
        self, trigger: NewAcquisitionTrigger, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))).mkdir()
        make_plate(folder, "plate")
        store = Store()
        async with triggerer((trigger, store)) as running:
            await until(lambda: saved(store))

        assert running.names() == ["plate"]
        assert caplog.text.count("'caf\\udce9'. Rename them") == 1

    async def test_a_link_to_itself_is_said_once_and_keeps_no_plate_back(
        self, trigger: NewAcquisitionTrigger, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "loop").symlink_to("loop")
        make_plate(folder, "plate1")
        store = Store()
        async with triggerer((trigger, store)) as running:
            await until(lambda: saved(store))
            make_plate(folder, "plate2")
            await until(lambda: len(saved(store)) == 2)

        assert running.names() == ["plate1", "plate2"]
        assert caplog.text.count("'loop' in ") == 1

    @pytest.mark.parametrize("trouble", ["broken", "in_use"])
    async def test_nothing_is_new_as_long_as_airflow_does_not_say_what_was_reported(
        self, trigger: NewAcquisitionTrigger, folder: Path, trouble: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = Store()
        make_plate(folder, "first")
        async with triggerer((trigger, store)):
            await until(lambda: saved(store) == {"first"})
        setattr(store, trouble, trouble == "broken")
        make_plate(folder, "second")
        async with triggerer((trigger, store)) as running:
            await until(lambda: "does not say" in caplog.text)
            assert running.events == []
            setattr(store, trouble, trouble != "broken")
            await until(lambda: saved(store) == {"first", "second"})

        assert running.names() == ["second"]
        assert caplog.text.count("does not say") == 1

    async def test_what_could_not_be_noted_is_noted_later(
        self, trigger: NewAcquisitionTrigger, folder: Path
    ) -> None:
        store = Store()
        make_plate(folder, "plate")
        set_it = store.aset
        refused: list[str] = []

        async def refuse(key: str, value: Any) -> None:
            if key.endswith("/0") and len(refused) < 3:
                refused.append(key)
                raise RuntimeError("locked")
            await set_it(key, value)

        store.aset = refuse  # type: ignore[method-assign]
        async with triggerer((trigger, store)) as running:
            await until(lambda: saved(store) == {"plate"})

        assert running.names() == ["plate"]
        assert len(refused) == 3

    async def test_another_plate_of_the_same_name_is_another_event(
        self, trigger: NewAcquisitionTrigger, folder: Path
    ) -> None:
        store = Store()
        make_plate(folder, "plate")
        async with triggerer((trigger, store)) as running:
            await until(lambda: saved(store))
            (folder.parent / "next").mkdir()
            new = make_plate(folder.parent / "next", "plate")
            rmtree(folder / "plate")
            new.rename(folder / "plate")
            inode = (folder / "plate").stat().st_ino
            await until(lambda: any(f'{{"plate": [{inode},' in value for value in store.values()))
        async with triggerer((trigger, store)) as again:
            await asyncio.sleep(0.2)

        assert running.events[0]["id"] != running.events[1]["id"]
        assert again.events == []


async def test_it_also_runs_alone(trigger: NewAcquisitionTrigger, folder: Path) -> None:
    store = Store()
    make_plate(folder, "plate")
    trigger.asset_state_store = store  # type: ignore[assignment]

    events = trigger.run()
    event = await anext(events)
    following = asyncio.ensure_future(anext(events))
    await until(lambda: saved(store) == {"plate"})
    following.cancel()

    assert event.payload["name"] == "plate"


class TestMemory:
    async def test_thousands_of_folders_take_few_values_of_bounded_size(self) -> None:
        store, known = Store(), {f"2026-11-21_screen_plate_{n}": Known(n, n / 7) for n in range(10_000)}
        memory = Memory(store, "/data")
        await memory.load()
        await memory.save(known)
        written = dict(store)
        await memory.save({"one more": Known(1, 1.0)})

        assert (await Memory(store, "/data").load()).known == {**known, "one more": Known(1, 1.0)}
        assert max(len(value) for value in store.values()) < PART_BYTES * 1.1
        assert len(store) < 30
        assert len({*store.items()} - {*written.items()}) == 1

    async def test_what_is_forgotten_is_gone_and_what_changes_is_kept_once(self) -> None:
        store = Store()
        memory = Memory(store, "/data")
        await memory.load()
        await memory.save({"a": Known(1, 1.0), "b": Known(2, 2.0)})
        await memory.save({"b": Known(3, 2.0)}, ["a"])

        assert (await Memory(store, "/data").load()).known == {"b": Known(3, 2.0)}

    async def test_each_folder_has_its_own_and_the_first_look_stays(self) -> None:
        store = Store()
        first = await Memory(store, "/data").load()
        await Memory(store, "/data").save({"a": Known(1, 1.0)})

        assert (await Memory(store, "/other").load()).known == {}
        assert (await Memory(store, "/data").load()).first_look_at == first.first_look_at
