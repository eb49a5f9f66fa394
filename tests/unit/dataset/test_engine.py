"""A store that cannot be used says which, why, and what to do, and never tells a password."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_airflow.dataset import DatasetStore, engine
from fractal_airflow.dataset.engine import parse_url, public_name
from fractal_airflow.exceptions import DatasetStoreError
from fractal_airflow.fractal.images import Image
from tests.services.disks import run_on_read_only_disk, run_on_tiny_disk
from tests.services.postgres import PostgresServer
from tests.unit.dataset.changes import ZARR_DIR, add, image, plate, step, urls

MERGE_UNTIL_FULL = f"""
import sys
from fractal_airflow.dataset import DatasetStore, StepRun
from fractal_airflow.exceptions import DatasetStoreError
from fractal_airflow.fractal.images import Image

store = DatasetStore(sys.argv[1])
store.create("plate", "{ZARR_DIR}")
for number in range(100):
    step = StepRun("nuclei", "run", number, "Threshold")
    new = [Image(f"{ZARR_DIR}/{{number}}-{{i}}", None, {{"note": "x" * 1000}}, {{}}) for i in range(500)]
    before = store.images("plate")
    try:
        store.merge("plate", step, lambda images, removed: [*images, *new])
    except DatasetStoreError as error:
        print(error)
        print("images before:", len(before) > 0, "as it was:", store.images("plate") == before)
        break
"""

CREATE = f"""
import sys
from fractal_airflow.dataset import DatasetStore
from fractal_airflow.exceptions import DatasetStoreError

try:
    DatasetStore(sys.argv[1]).create("other", "{ZARR_DIR}")
except DatasetStoreError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("sqlite:////data/a.db", "sqlite:////data/a.db"),
        ("postgres://u:p@h:5433/d", "postgresql+psycopg://u:***@h:5433/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg://u:***@h/d"),
        (
            "postgresql+psycopg://h/d?user=u&password=p&sslmode=require",
            "postgresql+psycopg://h/d?sslmode=require&user=u",
        ),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(given: str, parsed: str) -> None:
    assert sorted(re.split("[?&]", public_name(parse_url(given)))) == sorted(re.split("[?&]", parsed))


def test_a_path_with_any_character_is_an_sqlite_store(tmp_path: Path) -> None:
    path = tmp_path / "a b?c=d%41#µ" / "store.db"

    plate(DatasetStore(path), "a")

    assert path.exists()


@pytest.mark.parametrize(
    "url", ["", "no url", "postgresql://h:port/d", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:"]
)
def test_what_is_no_store_address_is_refused(url: str) -> None:
    with pytest.raises(DatasetStoreError, match=r"sqlite:////path/to/file.db") as caught:
        DatasetStore(url)

    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named(postgres: PostgresServer) -> None:
    store = DatasetStore("postgresql://me:secret@127.0.0.1:1/plates")

    with pytest.raises(
        DatasetStoreError, match=r"127\.0\.0\.1:1/plates.*Check that the database server runs"
    ) as caught:
        store.list_datasets()

    assert "secret" not in str(caught.value)


def test_a_wrong_password_or_database_is_named(postgres: PostgresServer) -> None:
    wrong = postgres.url("postgres").replace(postgres.password, "wrong-secret")

    with pytest.raises(DatasetStoreError, match=r"Check user and password") as caught:
        DatasetStore(wrong).list_datasets()
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(DatasetStoreError, match='"no_such_db" does not exist'):
        DatasetStore(postgres.url("no_such_db")).list_datasets()


def test_a_user_without_rights_is_told(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    read_only = f"{url}?options=-c%20default_transaction_read_only%3Don"

    with pytest.raises(DatasetStoreError, match=r"read-only.*Make the store writable"):
        DatasetStore(read_only).create("plate", ZARR_DIR)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DatasetStoreError, match=r"folder .*/file/sub cannot be made"):
        DatasetStore(tmp_path / "file" / "sub" / "store.db").list_datasets()


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetStoreError, match=r"unable to open.*Check that its folder exists"):
        DatasetStore(tmp_path).list_datasets()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("not a database, but somebody's notes\n" * 100)

    with pytest.raises(DatasetStoreError, match=r"not a database.*choose another path"):
        DatasetStore(path).create("plate", ZARR_DIR)

    assert path.read_text().startswith("not a database, but")


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = DatasetStore(path)
    store.create("plate", ZARR_DIR, [image(str(number)) for number in range(1000)])
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 100_000)

    with pytest.raises(DatasetStoreError, match=r"malformed.*bring back a copy"):
        store.images("plate")


def test_a_read_only_file_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = DatasetStore(path)
    plate(store, "a")
    read_only = DatasetStore(f"sqlite:///file:{path}?mode=ro&uri=true")

    with pytest.raises(
        DatasetStoreError, match=r"store\.db.*readonly.*Make the file and its folder writable"
    ):
        read_only.create("other", ZARR_DIR)

    assert urls(read_only.images("plate")) == ["a"]


def test_a_read_only_disk_says_so(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "store.db"
    plate(DatasetStore(path), "a")

    said = run_on_read_only_disk(path.parent, CREATE, f"sqlite:///{path}")

    assert re.search(r"store\.db cannot be used: .* this user may write there\.", said), said
    assert [one.name for one in DatasetStore(path).list_datasets()] == ["plate"]


def test_a_full_disk_says_so_and_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "store.db"
    path.parent.mkdir()

    said = run_on_tiny_disk(path.parent, 4096, MERGE_UNTIL_FULL, f"sqlite:///{path}")

    assert re.search(r"store\.db cannot be used: .*full\. Free some space", said), said
    assert "images before: True as it was: True" in said


def test_reading_goes_on_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = DatasetStore(path)
    plate(store, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert urls(store.images("plate")) == ["a"]
    assert store.get_or_create("plate", ZARR_DIR).version == 1

    other.close()


def test_a_writer_that_waits_too_long_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, store: DatasetStore
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.2)
    plate(store, "a")

    def merge_meanwhile(images: list[Image], removed: frozenset[str]) -> list[Image]:
        store.merge("plate", step(1), add("b"))
        return images

    with pytest.raises(DatasetStoreError, match=r"Another process has been writing"):
        store.merge("plate", step(0), merge_meanwhile)
    assert urls(store.images("plate")) == ["a"]


def test_a_store_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "store.db")
    plate(store, "a")
    for file in tmp_path.iterdir():
        file.unlink()

    assert store.list_datasets() == []


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = DatasetStore("sqlite:///store.db")
    monkeypatch.chdir("/")

    plate(store, "a")

    assert (tmp_path / "store.db").exists()


def test_the_records_can_be_imported_without_sqlalchemy() -> None:
    program = (
        "import sys; from fractal_airflow.dataset import StepRun; assert 'sqlalchemy' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
