"""Every failure that the simulator knows, against a whole engine: what becomes of call and key.

`EFFECTS` is the list. A failure that is added to the catalogue has to be added here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from gptflow.engine.clock import Clock
from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.events import (
    CallRetried,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeyUsed,
    ModelMissing,
)
from gptflow.engine.secret import Secret
from gptflow.errors import CallFailed, RunStopped
from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.records import Call, Failure, FailureKind, Usage

A, B = "sk-canary-0123456789abcdef-a", "sk-canary-0123456789abcdef-b"
SHORT_S = 0.5
"""A deadline that a good answer keeps and a hanging one does not."""

_numbers = itertools.count()


def question(text: str, model: str = "m-1") -> Call:
    """A call that nobody has asked before."""
    messages = [{"role": "user", "content": f"{text} {next(_numbers)}"}]
    return Call(b"k" * 16, "label", model, messages, {})


@dataclass
class Rig:
    """Engines over the simulator, whose waits pass at once."""

    server: MockServer
    entries: list[LogEntry]
    events: list[Event] = field(default_factory=list)
    now: float = 0.0

    def hear(self, event: Event) -> None:
        if not isinstance(event, KeyUsed):
            self.events.append(event)

    async def sleep(self, delay_s: float) -> None:
        self.now += delay_s
        await asyncio.sleep(0)

    def engine(self, *keys: str, attempts: int = 8, timeout_s: float = 20.0) -> Engine:
        entries = tuple(KeyEntry(key[-1], Secret(key), self.server.base_url) for key in keys)
        clock = Clock(now=lambda: self.now, wall=time.time, sleep=self.sleep, random=lambda: 0.5)
        return Engine(
            Config(entries, origin="config.json"),
            attempts=attempts,
            timeout_s=timeout_s,
            clock=clock,
            on_event=self.hear,
        )

    def keys_asked(self) -> str:
        """The keys of all requests so far in order: "aab"."""
        deadline_s = time.monotonic() + 5  # the server notes a request when it is through with it
        while len(self.entries) < self.server.requests and time.monotonic() < deadline_s:
            time.sleep(0.002)
        ordered = sorted(self.entries, key=lambda entry: entry.number)
        return "".join(entry.key[-1] for entry in ordered)

    def lost(self) -> list[type[Event]]:
        """The kinds of events that tell of a key."""
        return [type(event) for event in self.events if not isinstance(event, CallRetried)]


@pytest.fixture(scope="module")
def simulator() -> Iterator[tuple[MockServer, list[LogEntry]]]:
    """A server that fails each request in the way, and as often, as the request says."""
    rules: list[dict[str, object]] = []
    for name in CATALOGUE:
        rules += [
            {"name": name, "match": f"^{name} once ", "attempts": 1},
            {"name": name, "match": f"^{name} twice ", "attempts": 2},
            {"name": name, "match": f"^{name} always "},
            {"name": name, "match": f"^{name} with-a ", "key": A},
        ]
    entries: list[LogEntry] = []
    scenario = Scenario.model_validate({"failures": rules})
    with MockServer(scenario, on_request=entries.append) as server:
        yield server, entries


@pytest.fixture
def rig(simulator: tuple[MockServer, list[LogEntry]]) -> Rig:
    server, entries = simulator
    rig = Rig(server, entries)
    rig.keys_asked()  # what an earlier test has left under way
    entries.clear()
    server.stats.requests = 0
    return rig


async def failing(engine: Engine, call: Call) -> Failure:
    with pytest.raises(CallFailed) as caught:
        await engine.ask(call)
    assert "canary" not in repr((caught.value, caught.value.failure))
    return caught.value.failure


async def stopping(engine: Engine, call: Call) -> RunStopped:
    with pytest.raises(RunStopped) as caught:
        await engine.ask(call)
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    return caught.value


async def rests(rig: Rig, name: str, *, wait_s: float = 1.0) -> None:
    """The key rests as long as the server says, and the call is not charged for it."""
    async with rig.engine(A, attempts=1) as engine:
        reply = await engine.ask(question(f"{name} once"))
    assert (reply.key_name, reply.attempts, rig.keys_asked()) == ("a", 2, "aa")
    assert rig.lost() == [KeyRested]
    rested = next(event for event in rig.events if isinstance(event, KeyRested))
    assert wait_s - 0.5 < rested.wait_s <= wait_s + 2  # of two dates, each in whole seconds
    assert rig.now >= rested.wait_s

    rig.now = 0.0
    async with rig.engine(A, B, attempts=1) as engine:
        replies = [await engine.ask(question(f"{name} with-a"), prefer="a") for _ in range(2)]
    assert [reply.key_name for reply in replies] == ["b", "b"]
    assert rig.keys_asked() == "aa" + "abb"
    assert rig.now == 0


async def is_spent(rig: Rig, name: str) -> None:
    await _goes(rig, name, KeyExhausted)


async def is_retired(rig: Rig, name: str, *, hint: str = "") -> None:
    await _goes(rig, name, KeyRetired, hint)


async def _goes(rig: Rig, name: str, loss: type[Event], hint: str = "") -> None:
    """The key goes out of service; the others go on, and without any the run stops."""
    async with rig.engine(A, B, attempts=1) as engine:
        replies = [await engine.ask(question(f"{name} with-a"), prefer="a") for _ in range(3)]
    assert [reply.key_name for reply in replies] == ["b", "b", "b"]
    assert rig.keys_asked() == "abbb"
    assert rig.lost() == [loss]
    assert rig.now == 0

    async with rig.engine(A, attempts=1) as engine:
        stopped = await stopping(engine, question(f"{name} always"))
        await stopping(engine, question("Hello"))
    assert rig.keys_asked() == "abbb" + "a"
    assert "a (" in stopped.message
    assert "config.json" in (stopped.hint or "")
    assert hint in (stopped.hint or "")


async def lacks_the_model(rig: Rig, name: str) -> None:
    """The key is not asked for this model any more, but for others."""
    async with rig.engine(A, B, attempts=1) as engine:
        replies = [await engine.ask(question(f"{name} with-a"), prefer="a") for _ in range(2)]
        replies.append(await engine.ask(question("Hello", model="m-2"), prefer="a"))
    assert [reply.key_name for reply in replies] == ["b", "b", "a"]
    assert rig.lost() == [ModelMissing]

    async with rig.engine(A, attempts=1) as engine:
        stopped = await stopping(engine, question(f"{name} always"))
        assert (await engine.ask(question("Hello", model="m-2"))).key_name == "a"
    assert "m-1" in stopped.message
    assert rig.keys_asked() == "abba" + "aa"


async def fails_the_call(
    rig: Rig, name: str, *, kind: FailureKind = FailureKind.REJECTED, says: str = ""
) -> None:
    """The call fails at once; the key is as good as before."""
    async with rig.engine(A, B) as engine:
        failure = await failing(engine, question(f"{name} always"))
        assert rig.keys_asked() == "a"
        served = {(await engine.ask(question("Hello"))).key_name for _ in range(2)}
    assert (failure.kind, failure.attempts, failure.step) == (kind, 1, "label")
    assert failure.message
    assert says in failure.message
    assert served == {"a", "b"}
    assert (rig.events, rig.now) == ([], 0)


async def is_retried(
    rig: Rig,
    name: str,
    *,
    kind: FailureKind = FailureKind.SERVER,
    wait_s: float | None = None,
) -> None:
    """The call is charged, waits, and goes to another key; when its attempts are over it fails."""
    async with rig.engine(A, B) as engine:
        reply = await engine.ask(question(f"{name} twice"))
    assert (reply.text.split()[0], reply.attempts, rig.keys_asked()) == (name, 3, "aba")
    retries = [event for event in rig.events if isinstance(event, CallRetried)]
    assert [(event.key_name, event.attempt) for event in retries] == [("a", 1), ("b", 2)]
    assert [event.wait_s for event in retries] == ([wait_s] * 2 if wait_s else [0.25, 0.5])
    assert rig.lost() == []

    async with rig.engine(A, attempts=2) as engine:
        failure = await failing(engine, question(f"{name} always"))
    assert (failure.kind, failure.attempts) == (kind, 2)
    assert rig.keys_asked() == "aba" + "aa"


async def outlasts_the_deadline(rig: Rig, name: str) -> None:
    """The attempt ends at its deadline on the wall, and is charged."""
    async with rig.engine(A, timeout_s=SHORT_S) as engine:
        reply = await engine.ask(question(f"{name} once"))
    assert reply.attempts >= 2
    assert {event.fault for event in rig.events if isinstance(event, CallRetried)} == {"timeout"}

    async with rig.engine(A, attempts=1, timeout_s=SHORT_S) as engine:
        failure = await failing(engine, question(f"{name} always"))
    assert (failure.kind, failure.attempts) == (FailureKind.TIMEOUT, 1)


async def is_given_up(rig: Rig, name: str, *, kind: FailureKind, tries: int) -> None:
    """The call is asked so often and not once more, since each time is paid for."""
    async with rig.engine(A, attempts=8) as engine:
        failure = await failing(engine, question(f"{name} always"))
    assert (failure.kind, failure.attempts, rig.keys_asked()) == (kind, tries, "a" * tries)


async def stops_the_run(rig: Rig, name: str) -> None:
    """No key and no call would do better."""
    async with rig.engine(A, B) as engine:
        stopped = await stopping(engine, question(f"{name} always"))
        await stopping(engine, question("Hello"))
    assert (stopped.hint is not None, rig.keys_asked()) == (True, "a")


async def is_a_reply(
    rig: Rig, name: str, *, text: str | None = None, finish_reason: str | None = "stop"
) -> None:
    """The answer is odd, and good."""
    call = question(f"{name} always")
    async with rig.engine(A, attempts=1) as engine:
        reply = await engine.ask(call)
    assert reply.text == (text or call.messages[0]["content"])
    assert (reply.finish_reason, reply.attempts, rig.events) == (finish_reason, 1, [])
    assert (reply.usage == Usage()) == (name == "usage_missing")


REFUSED = partial(fails_the_call, kind=FailureKind.REFUSED)
BROKEN = partial(is_retried, kind=FailureKind.TRANSPORT)
WRONG_BASE_URL = partial(is_retired, hint="base_url")
WRONG_ORGANIZATION = partial(is_retired, hint="organization")
EMPTY = partial(is_given_up, kind=FailureKind.EMPTY, tries=3)
HOURS_S = 6 * 3600.0

EFFECTS: dict[str, Callable[[Rig, str], Coroutine[None, None, None]]] = {
    "rate_limit_rpm": rests,
    "rate_limit_tpm": rests,
    "rate_limit_rpd": partial(rests, wait_s=HOURS_S),
    "rate_limit_tpd": partial(rests, wait_s=HOURS_S),
    "rate_limit_text_only": rests,
    "rate_limit_azure": rests,
    "rate_limit_date": rests,
    "rate_limit_anthropic": rests,
    "rate_limit_silent": rests,
    "rate_limit_credit_type": rests,
    "rate_limit_resets_only": rests,
    "azure_zeros": rests,
    "azure_day": partial(rests, wait_s=86_400.0),
    "openrouter_rate_limit": rests,
    "gemini_rate_limit": partial(rests, wait_s=1.5),
    "gemini_rate_limit_details": partial(rests, wait_s=1.5),
    "gemini_rate_limit_silent": rests,
    "gateway_quota_403": partial(rests, wait_s=60.0),
    "openrouter_in_flight": rests,
    "error_and_choices": rests,
    "request_too_large": partial(fails_the_call, says="must be reduced"),
    "groq_too_large_413": partial(fails_the_call, says="reduce your message size"),
    "insufficient_quota": is_spent,
    "billing_not_active": is_spent,
    "billing_hard_limit": is_spent,
    "insufficient_balance": is_spent,
    "openrouter_credits": is_spent,
    "usage_limit_400": is_spent,
    "moonshot_balance": is_spent,
    "zhipu_balance": is_spent,
    "xai_credits_429": is_spent,
    "xai_credits_403": is_spent,
    "siliconflow_balance_403": is_spent,
    "dashscope_arrears_400": is_spent,
    "anthropic_credit_400": is_spent,
    "credits_in_200": is_spent,
    "invalid_api_key": is_retired,
    "account_deactivated": is_retired,
    "account_deactivated_text": is_retired,
    "access_terminated": is_retired,
    "invalid_organization": WRONG_ORGANIZATION,
    "mismatched_organization": WRONG_ORGANIZATION,
    "mismatched_project": WRONG_ORGANIZATION,
    "llama_invalid_key": is_retired,
    "quoted_key_401": is_retired,
    "gemini_invalid_key": is_retired,
    "wrong_path": WRONG_BASE_URL,
    "wrong_path_html": WRONG_BASE_URL,
    "redirect_302": WRONG_BASE_URL,
    "ip_not_allowed": stops_the_run,
    "unsupported_region": stops_the_run,
    "proxy_auth_407": stops_the_run,
    "model_not_found": lacks_the_model,
    "model_no_access": lacks_the_model,
    "gemini_nothing_granted": lacks_the_model,
    "azure_no_deployment": lacks_the_model,
    "ollama_no_model": lacks_the_model,
    "deepseek_no_model": lacks_the_model,
    "mistral_no_model": lacks_the_model,
    "anthropic_no_model": lacks_the_model,
    "openrouter_no_endpoints": lacks_the_model,
    "context_length_exceeded": partial(fails_the_call, says="maximum context length"),
    "vllm_context_length": partial(fails_the_call, says="maximum context length"),
    "llama_context_size": partial(fails_the_call, says="context size"),
    "string_above_max_length": fails_the_call,
    "invalid_schema": fails_the_call,
    "unsupported_parameter": partial(fails_the_call, says="max_completion_tokens"),
    "decimal_above_max_value": fails_the_call,
    "gemini_400": partial(fails_the_call, says="Invalid value"),
    "vllm_flat_400": partial(fails_the_call, says="n must be 1"),
    "quoted_prompt_400": fails_the_call,
    "token_id_429_400": fails_the_call,
    "payload_too_large_413": partial(fails_the_call, says="413 Request Entity Too Large"),
    "unprocessable_422": partial(fails_the_call, says="body.seed"),
    "not_supported_501": fails_the_call,
    "content_policy_violation": REFUSED,
    "invalid_prompt": REFUSED,
    "cyber_policy": REFUSED,
    "azure_content_filter": REFUSED,
    "openrouter_moderation": REFUSED,
    "refusal": partial(REFUSED, says="I can't help with that"),
    "finish_content_filter": REFUSED,
    "request_timeout_408": is_retried,
    "conflict_409": is_retried,
    "groq_capacity_498": is_retried,
    "server_500": is_retried,
    "vllm_dead_500": is_retried,
    "ollama_error_500": is_retried,
    "bare_text_500": is_retried,
    "bad_gateway_502": is_retried,
    "overloaded_503": is_retried,
    "slow_down_503": is_retried,
    "loading_503": is_retried,
    "shedding_503": is_retried,
    "gateway_no_channel_503": is_retried,
    "busy_503": partial(is_retried, wait_s=2.0),
    "gateway_timeout_504": is_retried,
    "cloudflare_522": is_retried,
    "overloaded_529": is_retried,
    "forbidden_html_403": is_retried,
    "should_retry_400": partial(is_retried, kind=FailureKind.REJECTED),
    "llama_bad_output_500": partial(is_given_up, kind=FailureKind.SERVER, tries=2),
    "error_in_200": is_retried,
    "finish_error": is_retried,
    "html_200": is_retried,
    "events_200": is_retried,
    "json_null": is_retried,
    "json_list": is_retried,
    "json_string": is_retried,
    "empty_body": is_retried,
    "no_content_204": is_retried,
    "truncated_json": is_retried,
    "truncated_text": is_retried,
    "cut_without_length": is_retried,
    "invalid_utf8": is_retried,
    "no_choices": is_retried,
    "null_message": is_retried,
    "empty_content": EMPTY,
    "reasoning_only": EMPTY,
    "corrupt_gzip": BROKEN,
    "reset_before_reply": BROKEN,
    "close_before_reply": BROKEN,
    "reset_mid_body": BROKEN,
    "short_body": BROKEN,
    "cut_chunk": BROKEN,
    "not_http": BROKEN,
    "long_header": BROKEN,
    "hang": outlasts_the_deadline,
    "hang_mid_body": outlasts_the_deadline,
    "slow_drip": outlasts_the_deadline,
    "blank_lines": is_a_reply,
    "big_header": is_a_reply,
    "finish_length": partial(is_a_reply, finish_reason="length"),
    "finish_null": partial(is_a_reply, finish_reason=None),
    "finish_unknown": partial(is_a_reply, finish_reason="eos_token_found"),
    "usage_missing": is_a_reply,
    "byte_order_mark": is_a_reply,
    "nan_value": is_a_reply,
    "duplicate_key": is_a_reply,
    "no_content_type": is_a_reply,
    "nul_in_content": partial(is_a_reply, text="a\0b"),
    "lone_surrogate": partial(is_a_reply, text="a\ufffdb"),
}


def test_each_failure_of_the_simulator_has_its_effect_here() -> None:
    assert sorted(EFFECTS) == sorted(CATALOGUE)


@pytest.mark.parametrize("name", EFFECTS)
def test_what_a_failure_does_to_the_call_and_the_key(rig: Rig, name: str) -> None:
    asyncio.run(EFFECTS[name](rig, name))
    assert "canary" not in repr(rig.events)
