"""How a batch is, as its provider tells it, and what a refused request of its API means."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.config import KeyEntry
from gptflow.engine.error_body import read_error
from gptflow.engine.verdicts import Verdict, VerdictKind, judge_fault, judge_response

NO_ROOM = "token_limit_exceeded"
"""The code of a batch for which there is no room in the queue of its organization."""
NOT_SENT = "not_sent"
"""The code of a request that no server has seen."""

_SERVER_ERRORS = frozenset({"server_error", "internal_error", "internal_server_error"})
_SERVER_ERROR, _BAD_REQUEST, _NOT_FOUND = 500, 400, 404
_ENDED = frozenset({"failed", "completed", "expired", "cancelled"})


class ValidationError(NamedTuple):
    """Why a batch was not begun."""

    code: str
    message: str
    line: int | None
    """Of its file, from 1; None where it is about the whole."""


class BatchState(msgspec.Struct, frozen=True):
    """A batch as its provider tells it."""

    remote_id: str
    status: str
    """validating, in_progress, finalizing, cancelling; or one of those that it never leaves:
    failed, completed, expired, cancelled."""
    output_file_id: str = ""
    error_file_id: str = ""
    errors: tuple[ValidationError, ...] = ()
    created_at: int = 0
    """Seconds since 1970."""
    answered: int = 0
    """Calls that have come to an end."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.status in _ENDED


class ApiRefused(Exception):
    """A request to the Batch API had no good answer; `verdict` says what that means.

    Raised to be judged where it is asked, and never shown as it is.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


def judged(key: KeyEntry, outcome: Response | TransportFault) -> Verdict:
    """What an outcome means, without the key's secrets, which some proxies quote."""
    if isinstance(outcome, TransportFault):
        verdict = judge_fault(outcome)
        if outcome.kind is FaultKind.CONNECT:
            verdict = msgspec.structs.replace(verdict, code=NOT_SENT)
    else:
        verdict = _judged_404(judge_response(outcome, time.time()), outcome)
    for secret in (key.api_key, *(value for _, value in key.headers)):
        verdict = msgspec.structs.replace(verdict, message=secret.scrub(verdict.message))
    return verdict


def _judged_404(verdict: Verdict, response: Response) -> Verdict:
    """A 404 of the API is about a thing that it does not find; a web server's may pass."""
    if response.status != _NOT_FOUND or verdict.message.lower().startswith("invalid url"):
        return verdict
    if not read_error(response.body).structured:
        return msgspec.structs.replace(verdict, kind=VerdictKind.RETRY)
    return msgspec.structs.replace(verdict, kind=VerdictKind.REJECTED, hint=None)


def is_missing(verdict: Verdict) -> bool:
    """Whether the API itself says that there is no such batch or file."""
    return verdict.status == _NOT_FOUND and verdict.kind is VerdictKind.REJECTED


def refusal(state: BatchState) -> Verdict | None:
    """What it means that a batch was not begun: of the whole, None where single lines are at fault.

    It is judged as the same error in the answer to a call would be.
    """
    whole = [error for error in state.errors if error.line is None]
    if state.errors and not whole:
        return None
    first = whole[0] if whole else ValidationError("", "the provider gave no reason", None)
    error = {"error": {"code": first.code, "message": first.message, "type": ""}}
    status = _SERVER_ERROR if first.code in _SERVER_ERRORS else _BAD_REQUEST
    verdict = judge_response(Response(status, {}, msgspec.json.encode(error)), time.time())
    return msgspec.structs.replace(verdict, status=None)


def rejected(error: ValidationError) -> Verdict:
    """What an error of one line means for its call."""
    message = error.message or f"the line of this call is not valid ({error.code})"
    return Verdict(VerdictKind.REJECTED, message, code=error.code or None)


def is_passing(verdict: Verdict) -> bool:
    """Whether the same request may do better later."""
    return verdict.kind in (VerdictKind.RETRY, VerdictKind.REST)


def is_unsure(verdict: Verdict) -> bool:
    """Whether the request may have been granted all the same: the answer may be lost alone."""
    return verdict.kind is VerdictKind.RETRY and verdict.code != NOT_SENT
