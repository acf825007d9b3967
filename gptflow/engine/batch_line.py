"""The lines of a batch: a call as a line of its upload, and what comes back for it.

https://platform.openai.com/docs/api-reference/batch/request-input and .../request-output.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from contextlib import suppress
from typing import NamedTuple

import msgspec

from gptflow.engine import wire
from gptflow.engine.attempt import Flaw, Response
from gptflow.engine.verdicts import Verdict, VerdictKind, judge_flaw, judge_response
from gptflow.records import Call, FailureKind, Reply

_SUCCESSES = range(200, 300)
_LINE = b'{"custom_id":"%s","method":"POST","url":"/v1/%s","body":%s}\n'


class BatchAnswer(NamedTuple):
    """What came back for one call of a batch."""

    call_key: bytes
    result: Reply | Verdict


class _Response(msgspec.Struct):
    status_code: int | None = None
    body: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Line)


def request_line(call: Call) -> bytes:
    """A call as a line of an upload; its call key is the line's name.

    Raises:
        UnicodeEncodeError: a message holds half of a surrogate pair, which UTF-8 cannot carry.
    """
    return _LINE % (call.key.hex().encode(), call.endpoint.encode(), wire.encode(call))


def read_line(line: bytes, now_wall: float) -> BatchAnswer | None:
    """What a line of an output or an error file says; None for a line that is none of ours.

    The reply has the body as it stands in the file. `now_wall`: seconds since 1970.
    """
    try:
        read = _decoded(line.removeprefix(BOM_UTF8))
        call_key = bytes.fromhex(read.custom_id)
    except (ValueError, TypeError, AttributeError, RecursionError):  # msgspec's are ValueErrors
        return None
    return BatchAnswer(call_key, _judged(read, now_wall))


def _decoded(line: bytes) -> _Line:
    """A line; also one with what only some decoders take in a body: NaN, lone surrogates, bytes."""
    with suppress(ValueError):
        return _decoder.decode(line)
    odd = json.loads(line.decode("utf-8", "replace"))
    told = odd.get("response")
    response = None
    if isinstance(told, dict):
        body = json.dumps(told.get("body")).encode()
        response = _Response(int(told.get("status_code") or 0), msgspec.Raw(body))
    error = odd.get("error")
    return _Line(odd["custom_id"], response, _error(error) if isinstance(error, dict) else None)


def _error(told: dict[str, object]) -> _Error:
    return _Error(*(str(told[name]) if told.get(name) else None for name in ("code", "message")))


def unanswered(message: str, code: str) -> Verdict:
    """The verdict on a call that its batch has left without an answer."""
    return Verdict(VerdictKind.RETRY, message, failure=FailureKind.SERVER, code=code)


def _judged(line: _Line, now_wall: float) -> Reply | Verdict:
    if line.response is None or (line.error is not None and not line.response.status_code):
        error = line.error or _Error()
        code = error.code or "batch_error"
        return unanswered(error.message or f"the batch gave no answer ({code})", code)
    response = Response(line.response.status_code or 0, {}, bytes(line.response.body))
    if response.status not in _SUCCESSES:
        return _passing(judge_response(response, now_wall))
    reply = wire.decode(response.body)
    return judge_flaw(reply, response, now_wall) if isinstance(reply, Flaw) else reply


def _passing(verdict: Verdict) -> Verdict:
    """In a batch the provider keeps its own rate limits: one more refusal is a server's fault."""
    if verdict.kind is not VerdictKind.REST:
        return verdict
    return msgspec.structs.replace(verdict, kind=VerdictKind.RETRY, failure=FailureKind.SERVER)
