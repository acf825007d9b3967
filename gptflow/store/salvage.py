"""Out of a damaged store into a new one: every row that can be read, by one way or the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from gptflow.errors import StoreError
from gptflow.store.connection import DATABASE_ERRORS, connect_reader
from gptflow.store.pages import Pages
from gptflow.store.sound import Row

BATCH = 1000
"""Rows that are inserted at a time."""
_LARGEST = (1 << 63) - 1


Sound = Mapping[str, Callable[[Row], bool]]
"""The tables to save, and what a sound row of each is."""


def salvage(path: Path, new: sqlite3.Connection, sound: Sound) -> None:
    """Fill the empty tables of `new` with what can be read of the store at `path`.

    First the way of SQLite, around the pages that it cannot read: that gives rows as they are now.
    Then all that is still in a page of the file or its log. The old store is left as it is.
    """
    if path.exists() and path.stat().st_size:  # SQLite throws the log of an empty file away
        with suppress(StoreError, *DATABASE_ERRORS), closing(connect_reader(path)) as old:
            old.text_factory = _text
            for table, is_sound in sound.items():
                _insert(new, table, filter(is_sound, _readable(old, new, table)))
    with Pages(path) as pages:
        for table, rows in _by_table(pages, new, sound):
            _insert(new, table, rows)


def _by_table(
    pages: Pages, new: sqlite3.Connection, sound: Sound
) -> Iterator[tuple[str, list[Row]]]:
    """The rows of all pages in batches, each with the table that it is of."""
    columns = {table: _columns(new, table) for table in sound}
    waiting: dict[str, list[Row]] = {table: [] for table in sound}
    for rowid, values in pages.rows():
        for table, names in columns.items():
            if len(values) != len(names) or values[0] is not None:
                continue
            row = dict(zip(names, [rowid, *values[1:]], strict=True))
            if sound[table](row):
                waiting[table].append(row)
                if len(waiting[table]) >= BATCH:
                    yield table, waiting[table]
                    waiting[table] = []
    yield from waiting.items()


def _insert(new: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    """Add rows that are not there yet."""
    names = _columns(new, table)
    marks = ", ".join("?" * len(names))
    statement = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608  # our own names
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        new.executemany(statement, [[row[name] for name in names] for row in batch])


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """A table's columns; the first is the row's number."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _readable(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> Iterator[Row]:
    """The rows of a table that SQLite can read; columns that the old table lacks are left out."""
    there = set(_columns(old, table))
    names = [name for name in _columns(new, table) if name in there]
    if len(names) < len(_columns(new, table)):  # an older version, or a schema that is damaged
        return
    number = names[0]
    listed = f"SELECT {', '.join(names)} FROM {table} WHERE {number} > ? ORDER BY {number}"  # noqa: S608
    position: int | None = -1
    while position is not None:
        try:
            for row in old.execute(listed, (position,)):
                position = _further(row, position)
                yield dict(zip(names, row, strict=True))
        except DATABASE_ERRORS:
            # Python reads a row ahead, and drops it where the one behind it cannot be read.
            try:
                row = _first(old, listed, position)
            except DATABASE_ERRORS:
                position = _next_readable(old, listed, position)
                continue
            if row is None:
                return
            position = row[0]
            yield dict(zip(names, row, strict=True))
        else:
            return


def _first(old: sqlite3.Connection, listed: str, position: int) -> tuple[Any, ...] | None:
    """The row behind a place, None if there is none; one of DATABASE_ERRORS if it is damaged."""
    row = old.execute(f"{listed} LIMIT 1", (position,)).fetchone()
    if row is not None:
        _further(row, position)
    return row  # type: ignore[no-any-return]


def _further(row: tuple[Any, ...], position: int) -> int:
    """The place of a row, which must be behind the one before: else reading would go in circles."""
    if row[0] <= position:
        raise sqlite3.DatabaseError("rows are out of order")
    return int(row[0])


def _next_readable(old: sqlite3.Connection, listed: str, position: int) -> int | None:
    """A place behind `position` from which on reading goes on; None if there is none.

    It costs some hundred looks, however far it is: ever further, then back to where it begins to
    work.
    """

    def works(place: int) -> bool:
        try:
            _first(old, listed, place)
        except DATABASE_ERRORS:
            return False
        return True

    step = 1
    while position + step < _LARGEST:
        if works(position + step):
            bad, good = position + step // 2, position + step
            while good - bad > 1:
                middle = (bad + good) // 2
                bad, good = (bad, middle) if works(middle) else (middle, good)
            return good
        step *= 2
    return None


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")
