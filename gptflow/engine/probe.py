"""Asks each key whether it works: one cheap request, or one completion of a token."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from gptflow.engine import wire
from gptflow.engine.attempt import FaultKind, Flaw, FlawKind, Response, TransportFault
from gptflow.engine.client import Client
from gptflow.engine.config import KeyEntry
from gptflow.engine.error_body import read_error
from gptflow.engine.limit_headers import REQUESTS, TOKENS, LimitReader
from gptflow.engine.open_client import open_client
from gptflow.engine.verdicts import (
    Verdict,
    VerdictKind,
    judge_fault,
    judge_flaw,
    judge_response,
)
from gptflow.records import Call

TIMEOUT_S = 15.0
AT_A_TIME = 32
WORKS = "works"

_STATES = {
    VerdictKind.EXHAUSTED: "spent",
    VerdictKind.RETIRED: "invalid",
    VerdictKind.REST: "resting",
    VerdictKind.NO_MODEL: "no such model",
    VerdictKind.REJECTED: "rejected",
    VerdictKind.REFUSED: "refused",
    VerdictKind.RETRY: "server error",
    VerdictKind.STOP: "not served here",
}
_FAULT_STATES = {
    FaultKind.CONNECT: "no connection",
    FaultKind.CERTIFICATE: "not trusted",
    FaultKind.PROXY: "no way through the proxy",
    FaultKind.TIMEOUT: "no answer",
    FaultKind.BROKEN: "broken off",
    FaultKind.OVERSIZE: "no API there",
}
_RETIRED_STATES = {403: "not allowed", 404: "no such path", 405: "no such path"}
_PATH_HINT = 'check "base_url": for most servers it ends in /v1'
_NO_LIST_HINT = f"{_PATH_HINT}. Some servers have no /models: --ask MODEL tries a completion"
_CONNECT_HINT = 'check "base_url", and whether the server runs'
_PAID = frozenset({FlawKind.EMPTY, FlawKind.CUT_OFF, FlawKind.REFUSED})
"""A token is too little for most models to say anything; that they answered is what counts."""
_CUT_SHORT = re.compile(r"could not finish the message because max_tokens", re.IGNORECASE)
"""How OpenAI's reasoning models say so, with a 400."""


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What a key came to. Nothing in it is secret."""

    name: str
    key: str
    """Its last four characters."""
    host: str
    organization: str | None
    state: str
    """One or a few words: works, spent, invalid, no such path, no connection ..."""
    message: str | None = None
    """The server's reason; of a key that works, what is odd about it."""
    hint: str | None = None
    models: int | None = None
    """How many the server lists; None where it lists none."""
    requests: int | None = None
    """The limit of requests: a minute, with most servers."""
    tokens: int | None = None
    """The limit of tokens."""
    limits_from: str | None = None
    """Who says so: "server" or "config"; None where nobody does."""

    @property
    def works(self) -> bool:
        """Whether it can be used."""
        return self.state == WORKS


class _Finding(NamedTuple):
    """What a request came to."""

    state: str = WORKS
    message: str | None = None
    hint: str | None = None


async def probe_keys(
    keys: Sequence[KeyEntry],
    *,
    ask: str | None = None,
    timeout_s: float = TIMEOUT_S,
    wall: Callable[[], float] = time.time,
) -> list[KeyReport]:
    """Asks all keys, 32 at a time, for their list of models; the reports are in their order.

    OpenAI lists models for a key whose quota is spent, and some servers list them for anybody.

    Args:
        keys: the keys to ask.
        ask: a model. Each key that may serve it is asked for a completion of one token, too, which
            shows whether it has quota, and costs a little.
        timeout_s: deadline for one request, whatever the key's entry says.
        wall: seconds since 1970.
    """
    turn = asyncio.Semaphore(AT_A_TIME)
    async with aclosing(open_client(timeout_s=timeout_s, connections=AT_A_TIME)) as client:
        probe = _Probe(client, wall, ask)

        async def report(key: KeyEntry) -> KeyReport:
            async with turn:
                return await probe.report(key)

        return await asyncio.gather(*map(report, keys))


class _Probe:
    """One look at any number of keys."""

    def __init__(self, client: Any, wall: Callable[[], float], ask: str | None) -> None:
        self._client: Client = client
        self._wall = wall
        self._ask = ask

    async def report(self, entry: KeyEntry) -> KeyReport:
        """What the key of an entry came to."""
        key = replace(entry, timeout_s=None)  # a person waits for it, whatever its calls may take
        response = await self._client.get(key, "models")
        names = _model_names(response)
        finding = self._judge_list(response, names)
        if self._ask and _may_serve(entry, self._ask):
            response = await self._completion(key, self._ask)
            finding = self._judge_completion(response)
        elif self._ask and finding.state == WORKS:
            finding = _Finding(message=f"was not asked: its entry does not name {self._ask}")
        if finding == _Finding() and names is not None:
            finding = _Finding(message=_not_listed(entry.models, names))
        requests, tokens, limits_from = self._limits(entry, response)
        return KeyReport(
            name=entry.name,
            key=str(entry.api_key),
            host=entry.host,
            organization=entry.organization,
            state=finding.state,
            message=_scrubbed(entry, finding.message),
            hint=finding.hint,
            models=None if names is None else len(names),
            requests=requests,
            tokens=tokens,
            limits_from=limits_from,
        )

    def _judge_list(
        self, response: Response | TransportFault, names: frozenset[str] | None
    ) -> _Finding:
        if isinstance(response, TransportFault):
            return _of_fault(response)
        if names is not None:
            return _Finding()
        error = read_error(response.body)
        if response.status == 200 and not error.structured:
            return _Finding("no API there", "it answers, but not with models", _NO_LIST_HINT)
        if response.status in (404, 405):
            return _Finding("no such path", error.message or None, _NO_LIST_HINT)
        if response.status == 200:
            flaw = Flaw(FlawKind.ERROR, error.message)
            return _of_verdict(judge_flaw(flaw, response, self._wall()))
        return _of_verdict(judge_response(response, self._wall()))

    async def _completion(self, key: KeyEntry, model: str) -> Response | TransportFault:
        messages: Any = [{"role": "user", "content": "Hi"}]
        for parameter in ("max_tokens", "max_completion_tokens"):
            call = Call(b"", "", model, messages, {parameter: 1})
            response = await self._client.send(key, call.endpoint, wire.encode(call))
            # Models that reason do not know the one, and many servers not the other.
            if not _is_rejected(response) or "max_completion_tokens" not in _message(response):
                break
        return response

    def _judge_completion(self, response: Response | TransportFault) -> _Finding:
        if isinstance(response, TransportFault):
            return _of_fault(response)
        if response.status != 200:
            if _is_rejected(response) and _CUT_SHORT.match(_message(response)):
                return _Finding()
            return _of_verdict(judge_response(response, self._wall()))
        reply = wire.decode(response.body)
        if not isinstance(reply, Flaw) or reply.kind in _PAID:
            return _Finding()
        return _of_verdict(judge_flaw(reply, response, self._wall()))

    def _limits(
        self, entry: KeyEntry, response: Response | TransportFault
    ) -> tuple[int | None, int | None, str | None]:
        """Requests, tokens, and who says so. The server knows better than the config."""
        if isinstance(response, Response):
            told = LimitReader().read(response.headers, 0.0, self._wall, surely=True)
            limits = {one.unit: int(one.limit) for one in told if one.limit}
            if REQUESTS in limits or TOKENS in limits:
                return limits.get(REQUESTS), limits.get(TOKENS), "server"
        return entry.rpm, entry.tpm, "config" if entry.rpm or entry.tpm else None


def _of_fault(fault: TransportFault) -> _Finding:
    verdict = judge_fault(fault)
    hint = _CONNECT_HINT if fault.kind is FaultKind.CONNECT else verdict.hint
    return _Finding(_FAULT_STATES[fault.kind], verdict.message, hint)


def _of_verdict(verdict: Verdict) -> _Finding:
    state = _STATES[verdict.kind]
    if verdict.kind is VerdictKind.RETIRED:
        status = verdict.status or 0
        state = "no such path" if 300 <= status < 400 else _RETIRED_STATES.get(status, state)
        if verdict.code and "organization" in verdict.code:
            state = "wrong organization"
    wait = f" (again in {verdict.wait_s:,.0f} s)" if verdict.wait_s else ""
    return _Finding(state, f"{verdict.message}{wait}", verdict.hint)


def _is_rejected(response: Response | TransportFault) -> bool:
    return isinstance(response, Response) and response.status == 400


def _message(response: Response | TransportFault) -> str:
    return read_error(response.body).message if isinstance(response, Response) else ""


def _model_names(response: Response | TransportFault) -> frozenset[str] | None:
    """The models in a list as OpenAI sends it, or Together, without a frame; None if it is none."""
    if not isinstance(response, Response) or response.status != 200:
        return None
    try:
        value = msgspec.json.decode(response.body)
    except (ValueError, RecursionError):
        return None
    listed = value.get("data") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        return None
    ids = (item.get("id") for item in listed if isinstance(item, dict))
    return frozenset(name for name in ids if isinstance(name, str))


def _may_serve(entry: KeyEntry, model: str) -> bool:
    return not entry.models or model in entry.models


def _not_listed(wanted: Iterable[str], names: frozenset[str]) -> str | None:
    """What an entry names and its server does not. Gemini lists models/NAME for NAME."""
    bare = names | {name.removeprefix("models/") for name in names}
    missing = [model for model in wanted if model not in bare]
    return f"does not list {', '.join(missing)}" if missing else None


def _scrubbed(entry: KeyEntry, message: str | None) -> str | None:
    """A message without what some servers echo of the request."""
    for secret in (entry.api_key, *(value for _, value in entry.headers)):
        message = secret.scrub(message) if message else None
    return message
