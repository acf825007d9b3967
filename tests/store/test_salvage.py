"""What is saved of a store with damaged pages, row by row."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.records import RowResult, RowStatus
from gptflow.store.migration import migrate
from gptflow.store.pages import Pages
from gptflow.store.record import row_id
from gptflow.store.salvage import salvage
from gptflow.store.sound import SOUND
from gptflow.store.store import Store
from tests.store.conftest import draft, rows

PAGE = 4096
LONG = b'{"text": "' + b"x" * 3 * PAGE + b'"}'
"""What lies on pages of its own."""
FOR_EVER_S = 60
"""What takes a tenth of a second takes so long only if it does not end."""


def result(position: int) -> RowResult:
    return RowResult(
        position=position, status=RowStatus.DONE, raw=LONG, fields=b"{}", calls=(), truncated=False
    )


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """A store of two runs with five rows each, all of them done."""
    path = tmp_path / "label.db"

    async def fill() -> None:
        with Store.open(path) as store:
            for plan in ("first", "second"):
                run = store.begin_run(draft(plan), rows(*range(5)))
                await asyncio.gather(
                    *(store.save_result(run.run_id, result(position)) for position in range(5))
                )

    asyncio.run(fill())
    return path


def overflow_pages(path: Path) -> list[int]:
    """The first page behind each result, in the order of the results."""
    with closing(sqlite3.connect(path)) as database:
        listed = database.execute(
            "SELECT pageno FROM dbstat WHERE name = 'results' AND pagetype = 'overflow'"
            " AND path LIKE '%+000000' ORDER BY path"
        )
        return [page for (page,) in listed]


def overwrite(path: Path, page: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(content)


def saved(path: Path) -> set[int]:
    """The results that are saved of a store; the process dies if that does not end."""
    signal.alarm(FOR_EVER_S)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new, Path(":memory:"))
        salvage(path, new, SOUND)
        signal.alarm(0)
        return {number for (number,) in new.execute("SELECT row_id FROM results")}


def test_a_damaged_result_of_the_second_run_costs_that_one_and_no_time(two_runs: Path) -> None:
    everything = saved(two_runs)
    assert len(everything) == 10
    overwrite(two_runs, overflow_pages(two_runs)[6], bytes(PAGE))
    assert everything - saved(two_runs) == {row_id(2, 1)}


@pytest.mark.parametrize("damaged", [[0], [4], [5], [9], [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])
def test_only_the_damaged_ones_are_lost_wherever_they_are(
    two_runs: Path, damaged: list[int]
) -> None:
    everything = sorted(saved(two_runs))
    pages = overflow_pages(two_runs)
    for number in damaged:
        overwrite(two_runs, pages[number], bytes(PAGE))
    assert saved(two_runs) == set(everything) - {everything[number] for number in damaged}


def test_a_row_that_goes_in_a_circle_takes_no_memory(tmp_path: Path) -> None:
    payload_bytes = bytes([0x84, 0x80, 0x80, 0x80, 0x00])  # 1 GiB
    local_bytes = 489 + ((1 << 30) - 489) % (PAGE - 4)
    leaf = b"\x0d" + bytes(2) + b"\0\1" + bytes(3) + (10).to_bytes(2, "big")
    page = leaf + payload_bytes + b"\1" + bytes(local_bytes) + (3).to_bytes(4, "big")
    page = page.ljust(PAGE, b"\0")
    circle = (3).to_bytes(4, "big") + bytes(PAGE - 4)
    path = tmp_path / "label.db"
    head = b"SQLite format 3\0" + PAGE.to_bytes(2, "big")
    path.write_bytes(head.ljust(PAGE, b"\0") + page + circle)
    tracemalloc.start()
    try:
        with Pages(path) as pages:
            assert list(pages.rows()) == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
