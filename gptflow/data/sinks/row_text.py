"""A finished row as one JSON object: the record's own text, with the fields added to it."""

from __future__ import annotations

from collections.abc import Sequence

from gptflow.data.json_text import SPACE, encoded, members
from gptflow.records import RowResult


class RowText:
    """Writes rows as JSON objects on one line, with all columns and fields or with those given."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        self._labels = None
        if columns is not None:
            self._labels = [(name, encoded(name) + b":") for name in columns]

    def of(self, result: RowResult) -> bytes:
        """The row. Values of record and fields stand there exactly as they came.

        With chosen columns, one that the row lacks is null.
        """
        if self._labels is None:
            return spliced(result.raw, result.fields)
        values = row_members(result)
        return (
            b"{"
            + b",".join(label + values.get(name, b"null") for name, label in self._labels)
            + b"}"
        )


def row_members(result: RowResult) -> dict[str, bytes]:
    """Columns and fields of a row by name, each as its exact JSON text."""
    return members(result.raw) | members(result.fields)


def spliced(first: bytes, second: bytes) -> bytes:
    """Two JSON objects as one: the members of the first, then those of the second."""
    inner = [text for text in (_inner(first), _inner(second)) if text]
    return b"{" + b",".join(inner) + b"}"


def _inner(text: bytes) -> bytes:
    return text.strip(SPACE)[1:-1].strip(SPACE)
