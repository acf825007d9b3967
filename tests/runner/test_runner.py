from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from gptflow.data.sinks.whole import WholeFile
from gptflow.errors import StoreCorrupt
from gptflow.runner.display import NoDisplay
from gptflow.runner.runner import Runner, RunOptions
from tests.runner.conftest import Folder


def test_a_store_that_breaks_at_the_very_end_leaves_the_output_to_the_next_run(
    folder: Folder,
) -> None:
    store = folder.path / "reviews.db"

    class Breaking(NoDisplay):
        def end(self) -> None:
            with closing(sqlite3.connect(store)) as connection, connection:
                connection.execute("DROP TABLE ledger")

    prepared = folder.prepare()
    with pytest.raises(StoreCorrupt, match="no such table"):
        Runner(prepared, RunOptions(store), Breaking()).run()
    with WholeFile(prepared.output) as file:
        file.abandon()
