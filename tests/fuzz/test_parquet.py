"""Whatever is written comes back; whatever bytes a file has, it is rows or an error of ours."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptflow.data.sinks.parquet import ParquetSink
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.errors import DataError
from gptflow.records import RowResult, RowStatus
from tests.fuzz.fuzzing import fuzzed, quick

plain_text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | plain_text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=5,
)
columns = st.one_of(
    *(st.lists(kind, min_size=1, max_size=6) for kind in (values, scalars, numbers, plain_text)),
    st.lists(st.lists(numbers, max_size=3), min_size=1, max_size=6),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.parquet"


def rows_of(path: Path) -> list[Any]:
    return [record.columns for record in FileSource([InputFile.of(path)]).records()]


@fuzzed
@given(columns)
@example([2**63, 1])
@example([-(2**63), 2**63 - 1])
@example([2**53 + 1, 0.5])
@example([[], [1], [0.5], ["x"]])
def test_any_value_comes_back_out_of_parquet(path: Path, column: list[Any]) -> None:
    with path.open("w+b") as stream:
        sink = ParquetSink(stream, ["a"])
        for value in column:
            sink.write(RowResult(0, RowStatus.DONE, json.dumps({"a": value}).encode()))
        sink.finish()

    for row, value in zip(rows_of(path), column, strict=True):
        assert row == {"a": value}
        assert isinstance(row["a"], bool) == isinstance(value, bool)


@st.composite
def near_files(draw: st.DrawFn) -> bytes:
    """A file of every type with some of its bytes changed, most of them at its end."""
    stream = io.BytesIO()
    table = pa.table(
        {
            "number": list(range(50)),
            "text": [f"text {n}" for n in range(50)],
            "list": [[n] * (n % 3) for n in range(50)],
            "object": [{"a": n, "b": None} for n in range(50)],
            "double": [math.sqrt(n) for n in range(50)],
            "time": pa.array(range(50), pa.timestamp("ns")),
        }
    )
    pq.write_table(table, stream, row_group_size=draw(st.sampled_from([7, 50])))
    data = bytearray(stream.getvalue())
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data) - 1) | st.integers(len(data) - 500, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@fuzzed
@given(near_files())
def test_any_file_is_rows_or_an_error_of_ours(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with quick(), contextlib.suppress(DataError):
        rows_of(path)
