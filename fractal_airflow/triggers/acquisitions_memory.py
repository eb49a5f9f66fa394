"""
What a watcher remembers over restarts: in the state store that Airflow keeps for its asset.

The store has keys and values, and cannot list its keys. So the folders that are known lie in numbered parts, of
which one is written when a folder is added; all of them are read when the watcher starts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Protocol, cast

from fractal_airflow.triggers.acquisitions_rules import Known, Reported

PART_BYTES = 32_000
"""Airflow warns of values of more than 64 kB."""


class StateStore(Protocol):
    """What is used of Airflow's asset state store."""

    async def aget(self, key: str, default: Any = None) -> Any: ...

    async def aset(self, key: str, value: Any) -> None: ...


class MemoryUnavailableError(Exception):
    """Airflow does not say now what has been reported."""


class Memory:
    """
    What has been reported of the folders in one watched folder.

    :param folder: the watched folder. Another one, under the same asset, has a memory of its own.
    """

    def __init__(self, store: StateStore, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._prefix = f"acquisitions/{sha256(folder.encode()).hexdigest()[:12]}"
        self._part_of: dict[str, int] = {}
        self._bytes: list[int] = []

    async def load(self) -> Reported:
        """
        Read what has been reported; the first time, note when that was.

        :raises MemoryUnavailableError: if it cannot be told for sure. Nothing may be taken for new then.
        """
        first = await self._first_look() or await self._begin()
        reported = Reported(float(first["first_look_at"]))
        reported.add(await self._read_from(0))
        if await self._first_look() is None:
            raise MemoryUnavailableError("its asset was taken out of use just now")
        return reported

    async def news(self) -> dict[str, Known]:
        """Return what was added last, by this or by another triggerer."""
        return await self._read_from(max(0, len(self._bytes) - 1))

    async def save(self, known: Mapping[str, Known], forgotten: Iterable[str] = ()) -> None:
        """Write what was reported, and what is to be forgotten."""
        changed: dict[int, dict[str, Known]] = {}
        for name, each in known.items():
            changed.setdefault(self._place(name), {})[name] = each
        lost = {name: self._part_of[name] for name in forgotten if name in self._part_of}
        for number in sorted({*changed, *lost.values()}):
            # Another triggerer, which takes this one for dead, may have written meanwhile.
            part = await self._read(number) or {}
            part.update(changed.get(number, {}))
            await self._write(number, {name: each for name, each in part.items() if name not in lost})
        for name in lost:
            del self._part_of[name]

    async def _first_look(self) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", await self._store.aget(f"{self._prefix}/first"))

    async def _begin(self) -> dict[str, Any]:
        # Airflow says of an asset that is out of use, too, that there is nothing: then it lets nothing be written.
        await self._store.aset(f"{self._prefix}/folder", self._folder)
        first = await self._first_look()
        if first is None:
            first = {"first_look_at": time.time()}
            await self._store.aset(f"{self._prefix}/first", first)
        return first

    async def _read_from(self, number: int) -> dict[str, Known]:
        found: dict[str, Known] = {}
        while (part := await self._read(number)) is not None:
            found.update(part)
            number += 1
        return found

    async def _read(self, number: int) -> dict[str, Known] | None:
        value = await self._store.aget(f"{self._prefix}/{number}")
        if value is None:
            return None
        self._part_of.update(dict.fromkeys(value, number))
        self._note_size(number, len(json.dumps(value)))
        return {name: Known(*each) for name, each in value.items()}

    async def _write(self, number: int, part: Mapping[str, Known]) -> None:
        value = {name: list(each) for name, each in part.items()}
        await self._store.aset(f"{self._prefix}/{number}", value)
        self._note_size(number, len(json.dumps(value)))

    def _note_size(self, number: int, size: int) -> None:
        self._bytes += [0] * (number + 1 - len(self._bytes))
        self._bytes[number] = size

    def _place(self, name: str) -> int:
        """Return the part that a folder is in, or is to be in."""
        number = self._part_of.get(name)
        if number is None:
            if not self._bytes or self._bytes[-1] > PART_BYTES:
                self._bytes.append(0)
            number = self._part_of[name] = len(self._bytes) - 1
            self._bytes[number] += len(json.dumps(name)) + 40
        return number
