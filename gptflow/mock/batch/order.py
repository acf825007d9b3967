"""What a request asks of files and batches, and whether OpenAI would do it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from gptflow.mock.batch.form import Form
from gptflow.mock.batch.record import Order
from gptflow.mock.request import BadRequestError, Endpoint, json_object, required, wrong_type

_ENDPOINTS: tuple[Endpoint, ...] = ("chat/completions", "completions")
_PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
_LASTS_S = range(3_600, 2_592_001)
_UPLOAD_LASTS_S = 2_592_000
_METADATA_PAIRS = 16
_NO_JSONL = "Invalid file format for Batch API. Must be .jsonl"


class Upload(msgspec.Struct, frozen=True):
    """A file that OpenAI would take."""

    name: str
    purpose: str
    content: bytearray
    lasts_s: int | None
    """None: until it is deleted."""


def read_upload(form: Form | None, max_bytes: int) -> Upload:
    """The file in a form. BadRequestError says what is wrong with it."""
    if form is None or not form.is_whole:
        raise BadRequestError("Could not parse multipart form")
    file = form.parts.get("file")
    if file is None or file.filename is None:
        raise BadRequestError("'file' is a required property")
    purpose = _field(form, "purpose")
    if purpose is None:
        raise BadRequestError("'purpose' is a required property")
    if purpose not in _PURPOSES:
        raise BadRequestError(f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'")
    if len(file.content) > max_bytes:
        raise BadRequestError("File is too large.")
    if purpose == "batch" and not (file.filename.endswith(".jsonl") and _begins(file.content)):
        raise BadRequestError(_NO_JSONL)
    return Upload(file.filename, purpose, file.content, _upload_lasts_s(form, purpose))


def _upload_lasts_s(form: Form, purpose: str) -> int | None:
    seconds = _field(form, "expires_after[seconds]")
    if seconds is not None:
        return _lasting("expires_after", int(seconds) if seconds.isdecimal() else seconds)
    return _UPLOAD_LASTS_S if purpose == "batch" else None


def _field(form: Form, name: str) -> str | None:
    part = form.parts.get(name)
    return part.content.decode("utf-8", "replace") if part else None


def _begins(content: bytearray) -> bool:
    """Whether the first line is JSON, or empty: that much of a batch's file is read at once."""
    end = content.find(b"\n")
    line = bytes(content if end < 0 else content[:end])
    try:
        return bool(content) and (not line.strip() or isinstance(msgspec.json.decode(line), dict))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def read_order(content: bytes) -> Order:
    """What a batch is to be. BadRequestError says why there will be none."""
    body = json_object(content)
    file_id = required(body, "input_file_id")
    if not isinstance(file_id, str):
        raise wrong_type("input_file_id", "a string", file_id)
    paths = [f"/v1/{endpoint}" for endpoint in _ENDPOINTS]
    endpoint = _one_of("endpoint", required(body, "endpoint"), paths)
    _one_of("completion_window", required(body, "completion_window"), ["24h"])
    lasting = body.get("output_expires_after")
    return Order(
        endpoint=_ENDPOINTS[paths.index(endpoint)],
        input_file_id=file_id,
        metadata=_metadata(body.get("metadata")),
        output_lasts_s=_lasting("output_expires_after", lasting.get("seconds"))
        if isinstance(lasting, dict)
        else None,
    )


def _one_of(param: str, value: Any, allowed: list[str]) -> str:
    if value not in allowed:
        names = " and ".join(f"'{name}'" for name in allowed)
        message = f"Invalid value: '{value}'. Supported values are: {names}."
        raise BadRequestError(message, param, "invalid_value")
    return str(value)


def _metadata(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type("metadata", "an object", value)
    for name, text in value.items():
        if not isinstance(text, str):
            raise wrong_type(f"metadata.{name}", "a string", text)
    if len(value) > _METADATA_PAIRS:
        raise BadRequestError(
            f"Invalid 'metadata': too many properties. Expected an object with at most "
            f"{_METADATA_PAIRS} properties, but got an object with {len(value)} properties "
            "instead.",
            "metadata",
            "object_above_max_properties",
        )
    return value


def _lasting(param: str, seconds: Any) -> int:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise wrong_type(f"{param}.seconds", "an integer", seconds)
    if seconds not in _LASTS_S:
        raise BadRequestError(
            f"Invalid '{param}.seconds': expected a value from {_LASTS_S.start} to "
            f"{_LASTS_S.stop - 1}, but got {seconds} instead.",
            f"{param}.seconds",
            "invalid_value",
        )
    return seconds


def page_of(things: list[Any], query: str, most: int) -> dict[str, Any]:
    """A part of a list, as `limit` and `after` want it. `things`: the newest first.

    `order`: asc turns them round; `purpose` leaves only files of that. BadRequestError for a
    `limit` that is none.
    """
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = asked.get("limit", str(most))
    if not limit.isdecimal() or not 1 <= int(limit) <= max(most, 100):
        raise BadRequestError(
            f"Invalid 'limit': expected an integer from 1 to {max(most, 100)}, but got "
            f"'{limit}' instead.",
            "limit",
            "invalid_value",
        )
    ordered = reversed(things) if asked.get("order") == "asc" else things
    purpose = asked.get("purpose")
    things = [thing for thing in ordered if purpose is None or thing.purpose == purpose]
    ids = [thing.id for thing in things]
    if "after" in asked and asked["after"] in ids:
        things = things[ids.index(asked["after"]) + 1 :]
    shown = [thing.wire() for thing in things[: int(limit)]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(things) > len(shown),
    }
