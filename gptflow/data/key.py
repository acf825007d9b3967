"""What a row is recognised by when the data was reordered, appended to or edited.

The row key is its identity. The ledger keeps a little more where the spec names id columns: an
edited row is still the same row, but what was done with it before is no longer its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from gptflow.data.exact_number import exact
from gptflow.data.excerpt import data_error, short
from gptflow.data.json_text import canonical
from gptflow.data.record import Record
from gptflow.errors import DataError
from gptflow.records import Columns

KEY_BYTES = 16

IDENTITY_BYTES = 8
"""The part of a ledger key that is the identity, where the spec names id columns."""


def row_key(columns: Columns, id_columns: Sequence[str] = ()) -> bytes:
    """16 bytes that stand for the values of the id columns, or of all columns if none is named.

    Whitespace, escapes and the order of members do not matter; types do: 1, 1.0 and "1" differ.

    Raises:
        KeyError: an id column is missing.
    """
    identity = [columns[name] for name in id_columns] if id_columns else columns
    return blake2b(canonical(identity), digest_size=KEY_BYTES).digest()


def ledger_key(record: Record, id_columns: Sequence[str]) -> bytes:
    """16 bytes for the ledger: a record's row key; with id columns half of it, half its content's.

    Raises:
        DataError: an id column is missing.
    """
    try:
        if not id_columns:
            return row_key(exact(record.raw, record.columns))
        identity = row_key(record.columns, id_columns)
        content = row_key(exact(record.raw, record.columns))
        return identity[:IDENTITY_BYTES] + content[:-IDENTITY_BYTES]
    except KeyError as error:
        raise _without_id(record, str(error.args[0])) from None


def identity_in(key: bytes, id_columns: Sequence[str]) -> bytes:
    """The row key in a ledger key: what stays the same when a row with an id is edited."""
    return key[:IDENTITY_BYTES] if id_columns else key


def _without_id(record: Record, name: str) -> DataError:
    has = ", ".join(short(column) for column in list(record.columns)[:20]) or "no columns"
    return data_error(
        (record.file, record.line),
        f"the record has no column '{name}', which source.id names",
        text=record.raw,
        hint=f"the record has {has}",
    )
