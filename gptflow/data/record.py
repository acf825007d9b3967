"""One record of a source, as it was read."""

from __future__ import annotations

import msgspec

from gptflow.records import Columns


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record of a source, before anything was selected."""

    number: int
    """Place among all records of the source, from 0."""
    raw: bytes
    """One JSON object in UTF-8 on one line: for .jsonl the very bytes of the line."""
    columns: Columns
    """The same record, decoded."""
    file: str
    """The file it stands in, as a person would type it."""
    line: int
    """The line it begins on, from 1; in a Parquet file the row that it is."""
