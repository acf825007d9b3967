from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.errors import StoreError, StoreVersion
from gptflow.store.ledger import insert_rows
from gptflow.store.migration import (
    MIGRATIONS,
    migrate,
    newest_version,
    require_current,
    stored_version,
)
from gptflow.store.run import insert_run
from gptflow.store.store import Store
from tests.store.conftest import draft, rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The migrations as they are, to add one to."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A store of today with one run, as plain SQLite."""
    with Store.open(path) as store:
        store.begin_run(draft(), rows("a", "b"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def add(folder: Path, statements: str) -> int:
    number = newest_version(folder) + 1
    (folder / f"{number:04}.sql").write_text(statements)
    return number


def test_migrations_are_numbered_from_1_without_gaps() -> None:
    names = sorted(file.name for file in MIGRATIONS.iterdir())
    assert names == [f"{number:04}.sql" for number in range(1, len(names) + 1)]


def test_an_older_store_is_brought_up_with_all_it_holds(
    database: sqlite3.Connection, path: Path, folder: Path
) -> None:
    newer = add(folder, "ALTER TABLE runs ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';")
    migrate(database, path, folder)
    assert stored_version(database, path, folder) == newer
    assert database.execute("SELECT name, mood, rows FROM runs").fetchall() == [
        ("label", "calm", 2)
    ]


def test_a_store_of_the_first_version_keeps_its_rows_which_a_new_run_takes_over(
    path: Path, folder: Path
) -> None:
    for file in folder.glob("*.sql"):
        if file.name != "0001.sql":
            file.unlink()
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, path, folder)
        insert_run(database, draft(), now=0.0)
        insert_rows(database, 1, rows("a", "b"))
        database.execute("UPDATE ledger SET status = 1")
        database.execute(
            "INSERT INTO results SELECT row_id, x'7b7d', x'7b7d', NULL, '', 0 FROM ledger"
        )
        database.execute("UPDATE runs SET status = 'finished', rows = 2")
    with Store.open(path) as store:
        before = list(store.reader.results(1))
        run = store.begin_run(draft(), rows("a", "b"))
        assert store.reuse_rows(run.run_id) == len(before) == 2
        assert list(store.reader.results(run.run_id)) == before


def test_an_empty_file_goes_through_every_version(path: Path, folder: Path) -> None:
    newest = add(folder, "ALTER TABLE runs ADD COLUMN mood TEXT;")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, path, folder)
        assert stored_version(database, path, folder) == newest


def test_a_migration_that_fails_changes_nothing(
    database: sqlite3.Connection, path: Path, folder: Path
) -> None:
    before = database.execute("SELECT sql FROM sqlite_master").fetchall()
    add(folder, "DROP TABLE ledger; CREATE TABLE runs (twice);")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(database, path, folder)
    assert database.execute("SELECT sql FROM sqlite_master").fetchall() == before
    assert stored_version(database, path) == newest_version()


def test_a_store_of_a_newer_gptflow_is_refused_and_left_alone(
    database: sqlite3.Connection, path: Path
) -> None:
    database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreVersion, match=r"has version 99; this gptflow knows versions up to"):
        Store.open(path)
    assert database.execute("PRAGMA user_version").fetchone() == (99,)


def test_reading_an_older_store_is_left_to_a_gptflow_that_knows_it(
    database: sqlite3.Connection, path: Path, folder: Path
) -> None:
    require_current(database, path, folder)
    newer = add(folder, "ALTER TABLE runs ADD COLUMN mood TEXT;")
    with pytest.raises(StoreError, match=f"has version {newer - 1}; this gptflow reads {newer}"):
        require_current(database, path, folder)
