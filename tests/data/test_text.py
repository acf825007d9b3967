from __future__ import annotations

from collections.abc import Callable

import pytest

from gptflow.data.sources.files import FileSource

Write = Callable[..., FileSource]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\n\n\n", ["a", "", ""]),
        ("\r\r\n", ["\r"]),
        (" a \x0b\u2028b\t\n", [" a \x0b\u2028b\t"]),
        ("\x00\x1b[31m", ["\x00\x1b[31m"]),
    ],
)
def test_every_line_is_a_row_without_its_end(source: Write, text: str, rows: list[str]) -> None:
    assert [record.columns["text"] for record in source(x__txt=text).records()] == rows
