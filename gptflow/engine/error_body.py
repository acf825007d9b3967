"""Reads the error out of a response body, in each of the shapes that servers give it."""

from __future__ import annotations

import html
import re
from typing import Any

import msgspec

LONGEST_MESSAGE = 500
"""Characters. Providers quote prompts in their messages; a log line needs the gist."""

_LONGEST_FULL = 8000
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"

_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(rb"\s*(<!doctype|<html|<head|<\?xml)", re.IGNORECASE)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # a server's words must not steer the terminal


class ErrorBody(msgspec.Struct, frozen=True):
    """What a body says about an error. An empty message means that it says nothing readable."""

    message: str = ""
    """One line. Of an HTML page the title alone."""
    full: str = ""
    """The message before it was cut, with Gemini's retryDelay: it may name a wait at its end."""
    codes: tuple[str, ...] = ()
    """The provider's own names for it, the most telling first: code, inner code, status."""
    type: str = ""
    """Broader than a code, and at times wrong: Together says credit_limit for a rate limit."""
    structured: bool = False
    """Whether there was an error object, as an API gives and a web server does not."""
    markup: bool = False
    """Whether it is an HTML page."""
    flagged: bool = False
    """Whether OpenRouter's metadata names reasons of moderation."""

    @property
    def code(self) -> str | None:
        """The first code that is a word: vLLM and llama.cpp put the HTTP status there."""
        return next((code for code in self.codes if not code.isdigit()), None)


def read_error(body: bytes) -> ErrorBody:
    """The error in a body of any shape; never raises."""
    if _MARKUP.match(body):
        title = _TITLE.search(body)
        text = html.unescape(_text(title[1])) if title else "an HTML page without a title"
        return ErrorBody(message=one_line(text), markup=True)
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ErrorBody(message=one_line(_text(body[: 4 * LONGEST_MESSAGE])))
    return _from_value(value)


def one_line(text: str) -> str:
    """`text` on one line, cut to a length that a log can take."""
    line = _flat(text)
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _from_value(value: Any) -> ErrorBody:
    if isinstance(value, list) and value:  # Gemini's compatible endpoint wraps it in a list
        value = value[0]
    if isinstance(value, dict):
        return _from_object(value)
    return ErrorBody(message=one_line(value) if isinstance(value, str) else "")


def _from_object(value: dict[str, Any]) -> ErrorBody:
    error = value.get("error")
    if isinstance(error, dict):
        return _from_error(error)
    if isinstance(error, str) and error:
        return ErrorBody(message=one_line(error), structured=True)
    if value.get("object") == "error":  # vLLM before it nested the error
        return _from_error(value)
    return ErrorBody(message=_detail(value))


def _from_error(error: dict[str, Any]) -> ErrorBody:
    inner = error.get("innererror")
    metadata = error.get("metadata")
    named = (
        error.get("code"),
        inner.get("code") if isinstance(inner, dict) else None,
        error.get("status"),
        metadata.get("limit_source") if isinstance(metadata, dict) else None,
    )
    message = error["message"] if isinstance(error.get("message"), str) else ""
    return ErrorBody(
        message=one_line(message),
        full=_flat(message[:_LONGEST_FULL]) + _retry_delay(error.get("details")),
        codes=tuple(str(name) for name in named if isinstance(name, str | int) and name != ""),
        type=error["type"] if isinstance(error.get("type"), str) else "",
        structured=True,
        flagged=isinstance(metadata, dict) and bool(metadata.get("reasons")),
    )


def _retry_delay(details: Any) -> str:
    """What Gemini says beside its message about when to come again, in words."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("@type") == _RETRY_INFO:
            return f" Please retry in {detail.get('retryDelay')}."
    return ""


def _detail(value: dict[str, Any]) -> str:
    """The message of FastAPI ({"detail": ...}) and of gateways ({"message": ...})."""
    detail = value.get("detail", value.get("message"))
    if isinstance(detail, str):
        return one_line(detail)
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        loc, told = detail[0].get("loc"), detail[0].get("msg", "")
        place = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
        return one_line(f"{place}: {told}" if place else str(told))
    return ""
