"""A store's address, and the transactions on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from fractal_airflow.dataset.engine import get_engine, parse_url, public_name, reading, writing
from fractal_airflow.dataset.migrate import prepare


class ConnectedStore:
    """What all of a store's methods stand on: its tables, brought up to date at first use.

    :param url: ``sqlite:////path/to/file.db``, the path itself, or ``postgresql://user:password@host/db``.
    """

    def __init__(self, url: str | Path) -> None:
        self._url = parse_url(url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({public_name(self._url)!r})"

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        engine = get_engine(self._url)
        prepare(engine)
        with reading(engine) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        engine = get_engine(self._url)
        prepare(engine)
        with writing(engine) as connection:
            yield connection
