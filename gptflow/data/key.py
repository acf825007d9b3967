"""The row key: what a row is recognised by when the data was reordered, appended to or edited."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from gptflow.data.excerpt import data_error, printable
from gptflow.data.json_text import canonical
from gptflow.data.record import Record
from gptflow.errors import DataError
from gptflow.records import Columns

KEY_BYTES = 16


def row_key(columns: Columns, id_columns: Sequence[str] = ()) -> bytes:
    """16 bytes that stand for the values of the id columns, or of all columns if none is named.

    Whitespace, escapes and the order of members do not matter; types do: 1, 1.0 and "1" differ.

    Raises:
        KeyError: an id column is missing.
        RecursionError: the values are nested too deeply.
    """
    identity = [columns[name] for name in id_columns] if id_columns else columns
    return blake2b(canonical(identity), digest_size=KEY_BYTES).digest()


def record_key(record: Record, id_columns: Sequence[str]) -> bytes:
    """The row key of a record.

    Raises:
        DataError: an id column is missing, or the record is nested too deeply.
    """
    try:
        return row_key(record.columns, id_columns)
    except KeyError as error:
        raise _without_id(record, str(error.args[0])) from None
    except RecursionError:
        place = (record.file, record.line)
        raise data_error(place, "the JSON is nested too deeply", text=record.raw) from None


def _without_id(record: Record, name: str) -> DataError:
    has = ", ".join(printable(column) for column in list(record.columns)[:20]) or "no columns"
    return data_error(
        (record.file, record.line),
        f"the record has no column '{name}', which source.id names",
        text=record.raw,
        hint=f"the record has {has}",
    )
