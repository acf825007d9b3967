"""The tables of docs/data.md say what the tests of odd data show, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults import test_data as faults
from tests.faults.odd_data import CASES, Kept

COLUMNS = ("jsonl", "json", "csv", "tsv", "txt", "rows")


@pytest.fixture
def tables(root: Path) -> list[list[list[str]]]:
    """The cells of each table in the section on odd data, without its head."""
    _, _, section = (root / "docs" / "data.md").read_text(encoding="utf-8").partition("## Odd data")
    found = re.findall(r"^\|---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for table in found
    ]


def test_every_case_stands_in_the_table_as_it_is_tested(tables: list[list[list[str]]]) -> None:
    told = {
        title: dict(zip(COLUMNS, (jsonl, json, table, table, txt, rows), strict=True))
        for title, jsonl, json, table, txt, rows, _ in tables[0]
    }
    tested = {
        title: {
            column: ""
            if column not in cases
            else "kept"
            if isinstance(cases[column], Kept)
            else "refused"
            for column in COLUMNS
        }
        for title, cases in CASES.items()
    }
    assert list(told) == list(tested)
    assert told == tested


def test_every_row_of_the_other_tables_is_the_name_of_a_test(
    tables: list[list[list[str]]],
) -> None:
    titles = [row[0] for table in tables[1:] for row in table]
    told = ["test_" + re.sub(r"\W+", "_", title).strip("_").lower() for title in titles]
    tested = [name for name in vars(faults) if re.match(r"test_(?!what_is_)", name)]
    assert told == tested
