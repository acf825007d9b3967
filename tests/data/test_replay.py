from __future__ import annotations

from collections.abc import Callable

import pytest

from gptflow.data.key import row_key
from gptflow.data.replay import Wanted, replay
from gptflow.data.selection import Selection
from gptflow.data.sources.files import FileSource
from gptflow.data.survey import Survey
from gptflow.errors import DataError
from gptflow.records import Row

Write = Callable[..., FileSource]
LINES = "".join(f'{{"id": {n}, "v": "{"x" * n}"}}\n' for n in range(5))


def wanted(source: FileSource, *positions: int, id_columns: tuple[str, ...] = ()) -> list[Wanted]:
    survey = Survey(source, Selection(id_columns=id_columns))
    entries = [entry for batch in survey.batches() for entry in batch]
    return [(*entries[position], 7) for position in positions]


def test_gives_the_wanted_rows_whole(source: Write) -> None:
    lines = source(x__jsonl=LINES)

    rows = list(replay(lines, wanted(lines, 1, 3)))

    columns = {"id": 1, "v": "x"}
    assert rows[0] == Row(1, 1, row_key(columns), 7, b'{"id": 1, "v": "x"}', columns)
    assert [row.position for row in rows] == [1, 3]


def test_nothing_wanted_is_nothing_read(source: Write) -> None:
    lines = source(x__jsonl="{broken")

    assert list(replay(lines, [])) == []


def test_wanted_rows_are_taken_from_a_lazy_iterator_one_ahead(source: Write) -> None:
    lines = source(x__jsonl=LINES)
    asked = iter(wanted(lines, 0, 1, 2, 3))

    next(replay(lines, asked))

    assert len(list(asked)) >= 2


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (LINES.replace("xx", "xy"), r"x\.jsonl:3 is another row"),
        ("\n".join(LINES.splitlines()[:2]), "it has fewer records"),
        ("", "it has fewer records"),
        (LINES.replace('"xx"', '"xx'), r"x\.jsonl:3: not valid JSON"),
    ],
)
def test_a_source_that_has_changed_is_noticed(source: Write, now: str, message: str) -> None:
    lines = source(x__jsonl=LINES)
    entries = wanted(lines, 0, 2, 4)
    source(x__jsonl=now)

    with pytest.raises(DataError, match=f"the source changed since the run began: {message}"):
        list(replay(lines, entries))


def test_with_id_columns_an_edited_row_is_another_one(source: Write) -> None:
    lines = source(x__jsonl=LINES)
    entries = wanted(lines, 2, id_columns=("id",))
    source(x__jsonl=LINES.replace("xx", "xy"))

    with pytest.raises(DataError, match="changed since the run began"):
        list(replay(lines, entries, id_columns=("id",)))


def test_with_id_columns_the_row_key_hangs_on_them_alone(source: Write) -> None:
    lines = source(x__jsonl=LINES)
    (before,) = replay(lines, wanted(lines, 2, id_columns=("id",)), id_columns=("id",))
    source(x__jsonl=LINES.replace("xx", "xy"))
    (after,) = replay(lines, wanted(lines, 2, id_columns=("id",)), id_columns=("id",))

    assert (after.key, after.columns["v"]) == (before.key, "xy")


def test_a_row_that_has_lost_its_id_is_another_one(source: Write) -> None:
    lines = source(x__jsonl=LINES)
    entries = wanted(lines, 2, id_columns=("id",))
    source(x__jsonl=LINES.replace("id", "ID"))

    with pytest.raises(DataError, match=r"since the run began: x\.jsonl:3 is another row"):
        list(replay(lines, entries, id_columns=("id",)))
