"""The tables make themselves, whoever comes first, and are what the schema says."""

from __future__ import annotations

import multiprocessing
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fractal_airflow.dataset import DatasetStore, ImageStatus, StepRun
from fractal_airflow.dataset.engine import get_engine, parse_url, writing
from fractal_airflow.dataset.schema import REVISION, VERSION_TABLE, metadata
from fractal_airflow.exceptions import DatasetStoreError
from tests.unit.dataset.changes import ZARR_DIR, set_type


def migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", "fractal_airflow.dataset:migrations")
    return config


def test_the_migrations_make_what_the_schema_says(store: DatasetStore, store_url: str) -> None:
    store.list_datasets()

    with get_engine(parse_url(store_url)).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_that_the_schema_names() -> None:
    assert ScriptDirectory.from_config(migrations()).get_heads() == [REVISION]


def test_the_migrations_lie_inside_the_package() -> None:
    folder = files("fractal_airflow.dataset") / "migrations"

    assert (folder / "env.py").is_file()
    assert [item.name for item in (folder / "versions").iterdir() if item.name.endswith(".py")]


def test_a_store_can_share_a_database_with_others(store: DatasetStore, store_url: str) -> None:
    with get_engine(parse_url(store_url)).begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('theirs')"))
        connection.execute(sa.text("CREATE TABLE dataset (theirs TEXT)"))

    store.create("plate", ZARR_DIR)

    with get_engine(parse_url(store_url)).connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "theirs"


def test_the_tables_can_be_taken_down_again(store: DatasetStore, store_url: str) -> None:
    store.list_datasets()

    with get_engine(parse_url(store_url)).begin() as connection:
        config = migrations()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with get_engine(parse_url(store_url)).connect() as connection:
        assert sa.inspect(connection).get_table_names() == [VERSION_TABLE]


def test_a_store_of_a_newer_version_is_refused(store: DatasetStore, store_url: str) -> None:
    with get_engine(parse_url(store_url)).begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32))"))
        connection.execute(sa.text(f"INSERT INTO {VERSION_TABLE} VALUES ('9999')"))

    with pytest.raises(DatasetStoreError, match=r"newer fractal_airflow .*'9999'.*upgrade fractal_airflow"):
        store.list_datasets()


OLD_ROWS = """
INSERT INTO fractal_dataset (name, zarr_dir, version, next_position, created_at, updated_at)
  VALUES ('plate', '/data/plate', 2, 2, '2026-01-01 00:00:00', '2026-01-02 00:00:00');
INSERT INTO fractal_step_run (dataset_id, dag_id, run_id, step, task) VALUES (1, 'nuclei', 'old', 0, 'Threshold');
INSERT INTO fractal_dataset_version VALUES (1, 1, '2026-01-01 00:00:00', 'created', NULL, 2, 2, 0, 0);
INSERT INTO fractal_dataset_version VALUES (1, 2, '2026-01-02 00:00:00', 'merged', 1, 2, 0, 1, 0);
INSERT INTO fractal_image (dataset_id, position, zarr_url, attributes, types, version_from, version_to) VALUES
  (1, 0, '/data/plate/a', '{}', '{}', 1, NULL),
  (1, 1, '/data/plate/b', '{}', '{}', 1, 2),
  (1, 1, '/data/plate/b', '{}', '{"seen":true}', 2, NULL);
INSERT INTO fractal_image_status (step_run_id, zarr_url, status, fingerprint, error, recorded_at) VALUES
  (1, '/data/plate/a', 'failed', 'f1', 'boom', '2026-01-02 00:00:00'),
  (1, '/data/plate/b', 'done', 'f1', NULL, '2026-01-02 00:00:00')
"""


OLD_RUNS_OF_TWO_STEPS = """
INSERT INTO fractal_step_run (dataset_id, dag_id, run_id, step, task) VALUES
  (1, 'nuclei', 'old', 1, 'Measure'), (1, 'nuclei', 'newer', 0, 'Threshold'), (1, 'other', 'old', 1, 'Measure');
INSERT INTO fractal_image_status (step_run_id, zarr_url, status, fingerprint, recorded_at) VALUES
  (2, '/data/plate/a', 'done', 'f1', '2026-01-02 00:00:00'),
  (2, '/data/plate/b', 'done', 'f1', '2026-01-02 00:00:00'),
  (4, '/data/plate/b', 'done', 'f1', '2026-01-02 00:00:00'),
  (3, '/data/plate/b', 'done', 'f1', '2026-01-03 00:00:00')
"""


def fill_as_0_2_did(store_url: str, rows: str) -> None:
    """Make the tables as the first migration did, with these rows."""
    with writing(get_engine(parse_url(store_url))) as connection:
        config = migrations()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in rows.split(";\n"):
            connection.exec_driver_sql(statement)


def test_old_results_whose_input_an_earlier_step_saw_later_do_not_stand(
    store: DatasetStore, store_url: str
) -> None:
    fill_as_0_2_did(store_url, f"{OLD_ROWS};\n{OLD_RUNS_OF_TWO_STEPS}")

    a, b = "/data/plate/a", "/data/plate/b"
    assert store.unchanged("plate", StepRun("nuclei", "new", 1, "Measure"), "f1") == {a}
    assert store.unchanged("plate", StepRun("nuclei", "new", 0, "Threshold"), "f1") == {b}
    assert store.unchanged("plate", StepRun("other", "new", 1, "Measure"), "f1") == {b}


def test_old_records_do_not_hide_which_of_two_dags_came_first(store: DatasetStore, store_url: str) -> None:
    fill_as_0_2_did(store_url, OLD_ROWS)
    b = [ImageStatus("/data/plate/b", "done", fingerprint="f1")]

    for dag_id, run_id in (("light", "1"), ("nuclei", "1"), ("light", "2")):
        store.merge("plate", StepRun(dag_id, run_id, 0, "Threshold"), set_type("b", seen=True), b)

    assert store.unchanged("plate", StepRun("nuclei", "2", 0, "Threshold"), "f1") == set()


def test_a_store_of_0_2_is_brought_up_to_date_with_all_that_is_in_it(
    store: DatasetStore, store_url: str
) -> None:
    fill_as_0_2_did(store_url, OLD_ROWS)

    a, b = "/data/plate/a", "/data/plate/b"
    assert store.snapshot("plate").mark == 0
    assert [one.types for one in store.images("plate")] == [{}, {"seen": True}]
    assert [(row.zarr_url, row.status, row.computed, row.merge) for row in store.statuses("plate")] == [
        (a, "failed", False, 0),
        (b, "done", True, 0),
    ]
    (told,) = store.step_runs("plate")
    assert (told.run_id, told.package, told.merge, told.versions) == ("old", None, 0, [2])
    assert store.unchanged("plate", StepRun("nuclei", "new", 0, "Threshold"), "f1") == {b}
    assert store.failed_before("plate", StepRun("nuclei", "new", 0, "Threshold")) == {a}
    again = store.merge(
        "plate",
        StepRun("nuclei", "new", 0, "Threshold"),
        lambda images, removed: images,
        [ImageStatus(b, "failed")],
    )
    assert again.merge == 1
    assert store.unchanged("plate", StepRun("nuclei", "newer", 0, "Threshold"), "f1") == set()


def use_first(url: str, number: int, barrier: multiprocessing.synchronize.Barrier) -> None:
    store = DatasetStore(url)
    barrier.wait()
    store.create(f"plate {number}", ZARR_DIR)


def test_processes_that_use_a_new_store_at_once_do_not_break_each_other(store_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=use_first, args=(store_url, n, barrier)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert len(DatasetStore(store_url).list_datasets()) == 4


def test_an_sqlite_store_lets_readers_go_on_while_somebody_writes(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "store.db")
    store.create("plate", ZARR_DIR)

    with get_engine(parse_url(tmp_path / "store.db")).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
