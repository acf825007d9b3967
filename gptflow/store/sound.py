"""What a sound row of each table looks like: a damaged one is told before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from gptflow.records import Failure
from gptflow.store.batches import BatchStatus
from gptflow.store.record import KEY_BYTES

Row = dict[str, Any]


def _is_sound_run(row: Row) -> bool:
    """Whether this is a row of `runs`. Its lists are looked at where they are needed."""
    texts = ("name", "status", "plan_digest", "spec", "spec_file", "server", "fields", "columns")
    return _is_number(row["run_id"]) and all(isinstance(row[name], str) for name in texts)


def _is_sound_ledger_row(row: Row) -> bool:
    """Whether this is a row of `ledger`."""
    return (
        _is_number(row["row_id"])
        and isinstance(row["record"], int)
        and row["record"] >= 0
        and _is_keys(row["row_key"], 1)
        and isinstance(row["ordinal"], int)
        and row["status"] in (0, 1, 2)
    )


def _is_sound_result(row: Row) -> bool:
    """Whether this is a row of `results`, and all of it can be read."""
    return (
        _is_number(row["row_id"])
        and is_object(row["raw"])
        and is_object(row["fields"])
        and (row["failure"] is None or _is_failure(row["failure"]))
        and _is_keys(row["calls"])
        and row["truncated"] in (0, 1)
    )


def _is_sound_call(row: Row) -> bool:
    """Whether this is a row of `calls`, and its reply can be read."""
    return (
        _is_number(row["call_id"])
        and _is_keys(row["call_key"], 1)
        and _is_number(row["run_id"])
        and all(isinstance(row[name], str) for name in ("step", "model", "key_name"))
        and is_object(row["body"])
    )


def _is_sound_reuse(row: Row) -> bool:
    """Whether this is a row of `reused`."""
    return _is_number(row["row_id"]) and _is_number(row["result_id"])


def _is_sound_batch(row: Row) -> bool:
    """Whether this is a row of `batches`."""
    texts = ("token", "model", "endpoint", "digest", "key_name", "account", "file_id", "remote_id")
    counts = ("tokens", "size_bytes", "tries")
    return (
        all(isinstance(row[name], str) for name in texts)
        and all(_is_number(row[name]) for name in ("batch_id", "run_id", "calls"))
        and all(isinstance(row[name], int) and row[name] >= 0 for name in counts)
        and isinstance(row["changed_at"], (int, float))
        and row["status"] in set(BatchStatus)
    )


def _is_sound_batch_call(row: Row) -> bool:
    """Whether this is a row of `batch_calls`."""
    return (
        _is_number(row["line_id"])
        and _is_number(row["batch_id"])
        and _is_keys(row["call_key"], 1)
        and isinstance(row["step"], str)
        and isinstance(row["tokens"], int)
    )


SOUND: dict[str, Callable[[Row], bool]] = {
    "runs": _is_sound_run,
    "ledger": _is_sound_ledger_row,
    "results": _is_sound_result,
    "reused": _is_sound_reuse,
    "calls": _is_sound_call,
    "batches": _is_sound_batch,
    "batch_calls": _is_sound_batch_call,
}
"""The tables that are saved. `usage` adds itself up again."""


def soundness(is_reply: Callable[[bytes], bool]) -> dict[str, Callable[[Row], bool]]:
    """SOUND for those who know what the body of a reply looks like."""

    def is_reply_row(row: Row) -> bool:
        return _is_sound_call(row) and is_reply(row["body"])

    return SOUND | {"calls": is_reply_row}


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_keys(value: object, count: int | None = None) -> bool:
    """Whether these are keys of KEY_BYTES each, one after the other; so many, if told."""
    if not isinstance(value, bytes):
        return False
    return len(value) % KEY_BYTES == 0 and (count is None or len(value) == count * KEY_BYTES)


def is_object(value: object) -> bool:
    """Whether this is the text of a JSON object, NaN and lone surrogates allowed."""
    if not isinstance(value, bytes):
        return False
    try:
        return isinstance(msgspec.json.decode(value), dict)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    try:
        return isinstance(json.loads(value, parse_int=str, parse_float=str), dict)
    except (ValueError, RecursionError):
        return False


def _is_failure(value: object) -> bool:
    if not isinstance(value, bytes):
        return False
    try:
        msgspec.json.decode(value, type=Failure)
    except ValueError:
        return False
    return True
