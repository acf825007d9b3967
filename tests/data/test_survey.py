from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gptflow.data.key import row_key
from gptflow.data.selection import Selection
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.data.sources.inline import InlineSource, RangeSource
from gptflow.data.survey import Entry, Survey
from gptflow.errors import DataError
from gptflow.spec.model import Sample, SourceSpec


def numbered(rows: Iterable[dict[str, Any]]) -> InlineSource:
    return InlineSource(list(rows), lambda number: ("spec.yaml", number + 1))


def surveyed(survey: Survey) -> list[Entry]:
    return [entry for batch in survey.batches() for entry in batch]


def test_every_record_becomes_a_row_with_position_number_and_key() -> None:
    survey = Survey(numbered([{"a": 1}, {"b": 2}, {"a": 1}]), Selection())

    assert surveyed(survey) == [
        (0, 0, row_key({"a": 1})),
        (1, 1, row_key({"b": 2})),
        (2, 2, row_key({"a": 1})),
    ]
    assert (survey.read, survey.selected, survey.columns) == (3, 3, ["a", "b"])


def test_where_comes_before_limit() -> None:
    odd = Selection(where=lambda row: bool(row["index"] % 2), limit=3)
    survey = Survey(RangeSource(100, ("spec.yaml", 1)), odd)

    assert [(position, number) for position, number, _ in surveyed(survey)] == [
        (0, 1),
        (1, 3),
        (2, 5),
    ]
    assert (survey.read, survey.selected) == (6, 3)


def test_limit_comes_before_sample() -> None:
    survey = Survey(
        RangeSource(1000, ("spec.yaml", 1)), Selection(limit=50, sample=Sample(n=10, seed=1))
    )

    entries = surveyed(survey)

    assert [position for position, _, _ in entries] == list(range(10))
    assert [number for _, number, _ in entries] == sorted(number for _, number, _ in entries)
    assert all(number < 50 for _, number, _ in entries)


def sample(values: Iterable[int], n: int, seed: int) -> set[int]:
    rows = [{"value": value} for value in values]
    entries = surveyed(Survey(numbered(rows), Selection(sample=Sample(n=n, seed=seed))))
    return {rows[number]["value"] for _, number, _ in entries}


def test_a_sample_depends_on_seed_and_rows_not_on_their_order() -> None:
    assert sample(range(200), 20, seed=7) == sample(reversed(range(200)), 20, seed=7)
    assert sample(range(200), 20, seed=7) != sample(range(200), 20, seed=8)


def test_a_sample_stays_nearly_the_same_when_rows_are_added() -> None:
    assert len(sample(range(200), 20, seed=7) & sample(range(210), 20, seed=7)) >= 16


def test_a_sample_is_fair() -> None:
    drawn = [value for seed in range(300) for value in sample(range(20), 5, seed)]

    assert all(40 < drawn.count(value) < 110 for value in range(20))  # 75 expected


def test_a_sample_larger_than_the_source_is_all_of_it() -> None:
    assert sample(range(5), 10, seed=0) == set(range(5))


def test_columns_are_those_of_the_selected_rows() -> None:
    rows = [{"a": 1, "skip": True}, {"b": 1, "skip": False}]
    where = Survey(numbered(rows), Selection(where=lambda row: not row["skip"]))
    drawn = Survey(numbered(rows), Selection(sample=Sample(n=1)))

    surveyed(where)
    (entry,) = surveyed(drawn)

    assert where.columns == ["b", "skip"]
    assert drawn.columns == list(rows[entry[1]])


def test_batches_have_the_size_asked_for() -> None:
    survey = Survey(RangeSource(25, ("spec.yaml", 1)), Selection())

    assert [len(batch) for batch in survey.batches(10)] == [10, 10, 5]


def test_the_key_begins_with_that_of_the_id_columns() -> None:
    (entry,) = surveyed(Survey(numbered([{"id": 5, "x": 1}]), Selection(id_columns=("id",))))

    assert entry[2].startswith(row_key({"id": 5}, ["id"])[:8])


def test_a_missing_id_column_ends_the_survey() -> None:
    with pytest.raises(DataError, match=r"^spec\.yaml:2: the record has no column 'id'"):
        surveyed(Survey(numbered([{"id": 5}, {"x": 1}]), Selection(id_columns=("id",))))


def test_what_where_raises_comes_through() -> None:
    def where(row: dict[str, Any]) -> bool:
        raise DataError(f"no lang in {row}")

    with pytest.raises(DataError, match="no lang in"):
        surveyed(Survey(numbered([{"a": 1}]), Selection(where=where)))


def test_the_selection_is_that_of_the_spec() -> None:
    spec = SourceSpec(range=9, id="index", limit=4, sample=Sample(n=2, seed=1))

    assert Selection.of(spec, None) == Selection(None, 4, Sample(n=2, seed=1), ("index",))


@pytest.mark.parametrize("drawn", [None, Sample(n=100)])
@pytest.mark.parametrize(
    ("name", "head", "row", "tail"),
    [
        ("x.jsonl", b"", b'{"text": "%s"}\n', b""),
        ("x.json", b'[{"text": "x"}\n', b', {"text": "%s"}', b"]"),
        ("x.csv", b"text\n", b'"%s"\n', b""),
        ("x.txt", b"", b"%s\n", b""),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, name: str, head: bytes, row: bytes, tail: bytes, drawn: Sample | None
) -> None:
    path = tmp_path / name
    path.write_bytes(head + (row % (b"word " * 400)) * 10_000 + tail)  # 20 MB
    survey = Survey(FileSource([InputFile.of(path)]), Selection(sample=drawn))

    tracemalloc.start()
    total = sum(len(batch) for batch in survey.batches(500))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert total == (100 if drawn else 10_000 + name.endswith(".json"))
    assert peak_bytes < 3_000_000
