"""Whole calls: retries, rotation and the end of it all, against a real server."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from gptflow.engine.attempt import FaultKind
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
    ReplyWasted,
)
from gptflow.engine.secret import Secret
from gptflow.errors import CallFailed, RunStopped
from gptflow.records import Call, Failure, FailureKind, Reply, Usage

A, B = "sk-aaaa-0123456789abcdef-canary", "sk-bbbb-0123456789abcdef-canary"
CALL = Call(b"k" * 16, "label", "m-1", [{"role": "user", "content": "hi"}], {})
Serve = Callable[..., str]
Respond = Callable[..., bytes]


@dataclass
class Rig:
    """An engine whose waits pass at once, with what it told and how long it would have waited."""

    base_url: str
    keys: tuple[str, ...] = (A,)
    events: list[Event] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    """The keys in the order of their first calls."""
    slept: list[float] = field(default_factory=list)
    now: float = 0.0
    breath_s: float = 0.0
    """What a wait takes on the real clock: time for calls that are under way to come back."""

    asleep: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether any call has waited."""

    def hear(self, event: Event) -> None:
        if isinstance(event, KeyUsed):
            self.used.append(event.key_name)
        else:
            self.events.append(event)

    async def sleep(self, delay_s: float) -> None:
        self.asleep.set()
        self.slept.append(delay_s)
        self.now += delay_s
        await asyncio.sleep(self.breath_s)

    def engine(
        self,
        *,
        attempts: int = 8,
        timeout_s: float = 5.0,
        max_in_flight: int = 9,
        wall: Callable[[], float] = time.time,
    ) -> Engine:
        names = zip("ab", self.keys, strict=False)
        entries = tuple(KeyEntry(name, Secret(key), self.base_url) for name, key in names)
        clock = Clock(now=lambda: self.now, wall=wall, sleep=self.sleep, random=lambda: 0.5)
        return Engine(
            Config(entries, origin="config.json"),
            attempts=attempts,
            timeout_s=timeout_s,
            concurrency=max_in_flight,
            clock=clock,
            on_event=self.hear,
        )

    def ask(self, attempts: int = 8, timeout_s: float = 5.0) -> Reply:
        async def once() -> Reply:
            async with self.engine(attempts=attempts, timeout_s=timeout_s) as engine:
                return await engine.ask(CALL)

        return asyncio.run(once())

    def failure(self, attempts: int = 8, timeout_s: float = 5.0) -> Failure:
        with pytest.raises(CallFailed) as caught:
            self.ask(attempts, timeout_s)
        return caught.value.failure


def error(message: str, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()


def used(requests: list[bytes]) -> str:
    """The keys of the requests in order: "aab"."""
    return "".join("a" if A.encode() in request else "b" for request in requests)


def test_a_call_is_answered(serve: Serve, respond: Respond) -> None:
    reply = Rig(serve(respond())).ask()

    assert (reply.text, reply.usage, reply.model) == ("hello", Usage(5, 1), "m-1")
    assert (reply.key_name, reply.attempts) == ("a", 1)


def test_a_limited_key_rests_and_the_call_goes_elsewhere(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    rig = Rig(serve({A: [respond(429, error("slow"), retry_after="9")], B: [respond()]}), (A, B))

    assert rig.ask().key_name == "b"
    assert used(requests) == "ab"
    assert rig.events == [KeyRested("a", 9.0, "slow")]


def test_when_all_keys_rest_the_call_waits_for_the_first_and_is_not_charged(
    serve: Serve, respond: Respond
) -> None:
    busy = [respond(429, error("slow"), retry_after="60")] * 9
    rig = Rig(serve({A: [*busy, respond()]}))
    reply = rig.ask(attempts=1)

    assert (reply.text, reply.attempts) == ("hello", 10)
    assert rig.slept == [60.0] * 9


def test_a_wrong_key_is_retired_and_the_others_go_on(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    rig = Rig(
        serve({A: [respond(401, error("Bad key", "invalid_api_key"))], B: [respond()]}), (A, B)
    )

    assert rig.ask(attempts=1).key_name == "b"
    assert used(requests) == "ab"
    assert rig.events == [KeyRetired("a", "Bad key")]


def test_a_key_without_quota_is_exhausted(serve: Serve, respond: Respond) -> None:
    spent = respond(429, error("Quota", "insufficient_quota"))
    rig = Rig(serve({A: [spent], B: [respond()]}), (A, B))

    assert rig.ask(attempts=1).key_name == "b"
    assert rig.events == [KeyExhausted("a", "Quota")]


def test_without_a_usable_key_the_run_stops_and_says_why_for_each(
    serve: Serve, respond: Respond
) -> None:
    rig = Rig(
        serve(
            {
                A: [respond(401, error("Bad key", "invalid_api_key"))],
                B: [respond(429, error("Quota", "insufficient_quota"))],
            }
        ),
        (A, B),
    )
    with pytest.raises(RunStopped) as caught:
        rig.ask()

    assert str(caught.value) == (
        "no API key is left that serves 'm-1'\n"
        "  a (…nary): out, 401: Bad key\n"
        "  b (…nary): spent, 429: Quota\n"
        'Hint: check "api_key"; pay in credit, or add another key; '
        "mend config.json, then run the same command again: what is done is kept"
    )


def test_a_model_that_no_key_serves_stops_the_run(serve: Serve, respond: Respond) -> None:
    missing = respond(404, error("The model `m-1` does not exist", "model_not_found"))

    with pytest.raises(RunStopped, match="does not serve it, 404: The model"):
        Rig(serve(missing), (A, B)).ask()


def test_a_wrong_base_url_stops_the_run_with_a_hint(serve: Serve, respond: Respond) -> None:
    with pytest.raises(RunStopped, match='check "base_url"'):
        Rig(serve(respond(404, b'{"detail":"Not Found"}'))).ask()


def test_a_fault_of_the_machine_stops_every_call(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    rig = Rig(serve(respond(403, error("No", "unsupported_country_region_territory"))), (A, B))

    async def in_turn() -> list[object]:
        async with rig.engine(max_in_flight=1) as engine:
            asks = [engine.ask(CALL) for _ in range(3)]
            first = await asyncio.gather(*asks, return_exceptions=True)
            return [*first, *await asyncio.gather(engine.ask(CALL), return_exceptions=True)]

    stops = asyncio.run(in_turn())
    assert all(isinstance(stop, RunStopped) and stop.message == "No" for stop in stops)
    assert (len(stops), len(requests)) == (4, 1)


def test_server_errors_are_retried_with_growing_waits_and_on_another_key(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    rig = Rig(serve(*[respond(500, error("oops"))] * 3, respond()), (A, B))

    assert rig.ask().attempts == 4
    assert used(requests) == "abab"
    assert rig.slept == [0.25, 0.5, 1.0]
    assert rig.events[0] == CallRetried("label", "m-1", "a", 1, 0.25, 500, "oops")


def test_the_use_of_a_key_is_told_before_its_first_call_alone(
    serve: Serve, respond: Respond
) -> None:
    rig = Rig(serve(*[respond(500, error("oops"))] * 3, respond()), (A, B))
    rig.ask()

    assert rig.used == ["a", "b"]


@pytest.mark.parametrize(
    ("answer", "fault"), [(b"HANG:", FaultKind.TIMEOUT), (b"RESET:", FaultKind.BROKEN)]
)
def test_a_retry_tells_how_the_transport_failed(
    serve: Serve, respond: Respond, answer: bytes, fault: FaultKind
) -> None:
    rig = Rig(serve(answer, respond()))
    rig.ask(timeout_s=0.3)
    (retried,) = rig.events

    assert isinstance(retried, CallRetried)
    assert (retried.status, retried.fault) == (None, fault)


def test_a_stop_ends_the_calls_that_wait_and_lets_those_on_the_wire_come_back(
    serve: Serve, respond: Respond
) -> None:
    busy, slow = respond(503, error("busy")), b"SLOW:" + respond()
    rig = Rig(serve({A: [busy], B: [slow]}), (A, B), breath_s=3600)

    async def run() -> list[object]:
        async with rig.engine(attempts=2) as engine:
            asks = [asyncio.create_task(engine.ask(CALL, prefer=name)) for name in "ab"]
            await rig.asleep.wait()  # the first waits to be tried again
            engine.stop(RunStopped("enough"))
            return await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 5)

    stopped, reply = asyncio.run(run())
    assert isinstance(stopped, RunStopped)
    assert isinstance(reply, Reply)


def test_after_the_last_attempt_the_call_fails(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    failure = Rig(serve(respond(503, error("busy")))).failure(attempts=3)

    assert failure == Failure(
        FailureKind.SERVER,
        "busy",
        "label",
        status=503,
        attempts=3,
        history=("a: 503 busy", "a: 503 busy", "a: 503 busy"),
    )
    assert len(requests) == 3


def test_a_wait_that_the_server_names_wins(serve: Serve, respond: Respond) -> None:
    rig = Rig(serve(respond(503, error("busy"), retry_after="17"), respond()))
    rig.ask()

    assert rig.slept == [17.0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HANG:", FailureKind.TIMEOUT),
        (b"RESET:", FailureKind.TRANSPORT),
        (b"CUT:HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", FailureKind.TRANSPORT),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", FailureKind.SERVER),
    ],
)
def test_passing_faults_of_every_sort_end_in_a_failure(
    serve: Serve, answer: bytes, kind: FailureKind
) -> None:
    failure = Rig(serve(answer)).failure(attempts=2, timeout_s=0.2)

    assert (failure.kind, failure.attempts) == (kind, 2)


def test_a_rejected_call_is_not_sent_again(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    failure = Rig(serve(respond(400, error("Too long", "context_length_exceeded")))).failure()

    assert (failure.kind, failure.code) == (FailureKind.REJECTED, "context_length_exceeded")
    assert len(requests) == 1


def test_a_refusal_is_not_sent_again_and_keeps_the_words(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    body = b'{"choices":[{"message":{"content":null,"refusal":"I cannot"}}]}'
    failure = Rig(serve(respond(200, body))).failure()

    assert (failure.kind, failure.reply) == (FailureKind.REFUSED, "I cannot")
    assert len(requests) == 1


def test_empty_replies_are_paid_for_three_times_at_most(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    body = b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}'

    assert Rig(serve(respond(200, body))).failure().kind is FailureKind.EMPTY
    assert len(requests) == 3


def test_an_empty_reply_after_other_faults_is_asked_for_as_often_as_one_alone(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    empty = respond(200, b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}')
    failing = respond(503, error("busy"))

    assert Rig(serve(failing, failing, empty, empty, respond())).ask().text == "hello"
    assert len(requests) == 5


def test_a_paid_reply_that_is_of_no_use_is_told_with_what_it_cost(
    serve: Serve, respond: Respond
) -> None:
    body = (
        b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":9}}'
    )
    rig = Rig(serve(respond(200, body), respond()))

    rig.ask()
    (wasted,) = (event for event in rig.events if isinstance(event, ReplyWasted))
    assert (wasted.call, wasted.reply.usage.completion_tokens) == (CALL, 9)


def test_a_reply_without_room_for_content_is_paid_for_once(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    body = b'{"choices":[{"message":{"content":""},"finish_reason":"length"}]}'

    assert "max_tokens" in Rig(serve(respond(200, body))).failure().message
    assert len(requests) == 1


def test_a_prompt_that_utf8_cannot_carry_fails_alone(serve: Serve, respond: Respond) -> None:
    call = msgspec.structs.replace(CALL, messages=[{"role": "user", "content": "\ud800"}])

    async def ask() -> Reply:
        async with Rig(serve(respond())).engine() as engine:
            return await engine.ask(call)

    with pytest.raises(CallFailed, match="surrogate"):
        asyncio.run(ask())


def together(rig: Rig, count: int, max_in_flight: int) -> list[Reply]:
    async def run() -> list[Reply]:
        async with rig.engine(max_in_flight=max_in_flight) as engine:
            return await asyncio.gather(*(engine.ask(CALL) for _ in range(count)))

    return asyncio.run(run())


def test_more_calls_than_may_be_in_flight_wait_in_line(serve: Serve, respond: Respond) -> None:
    rig, began = Rig(serve(b"SLOW:" + respond())), time.monotonic()

    assert len(together(rig, count=12, max_in_flight=3)) == 12
    assert time.monotonic() - began > 4 * 0.03


def test_after_a_rest_the_waiting_calls_come_back_in_growing_waves(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    limited = b"SLOW:" + respond(429, error("slow"), retry_after="5")
    rig = Rig(serve(*[limited] * 4, b"SLOW:" + respond()), breath_s=1.0)

    assert len(together(rig, count=4, max_in_flight=4)) == 4
    assert len(requests) == 8
    assert [event for event in rig.events if isinstance(event, KeyRested)] == rig.events
    assert len(rig.events) == 1


def cancelled(rig: Rig, started: Callable[[Engine], Awaitable[Reply]]) -> Reply:
    """Cancels one call in flight and one in line, and then asks again."""

    async def run() -> Reply:
        async with rig.engine(max_in_flight=1) as engine:
            tasks = [asyncio.create_task(engine.ask(CALL)) for _ in range(2)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return await asyncio.wait_for(started(engine), 5)

    return asyncio.run(run())


def test_a_cancelled_call_gives_its_place_back(serve: Serve, respond: Respond) -> None:
    rig = Rig(serve(b"HANG:", respond()))

    assert cancelled(rig, lambda engine: engine.ask(CALL)).text == "hello"


def test_a_call_that_ends_by_a_bug_gives_its_place_back(serve: Serve, respond: Respond) -> None:
    rig = Rig(serve(respond(503, error("busy")), respond()))

    def broken() -> float:
        raise ZeroDivisionError

    async def run() -> Reply:
        async with rig.engine(max_in_flight=1, wall=broken) as engine:
            with pytest.raises(ZeroDivisionError):
                await engine.ask(CALL)
            return await asyncio.wait_for(engine.ask(CALL), 5)

    assert asyncio.run(run()).text == "hello"


def test_a_conversation_stays_on_the_key_it_prefers(serve: Serve, respond: Respond) -> None:
    async def names() -> list[str]:
        async with Rig(serve(respond()), (A, B)).engine() as engine:
            return [(await engine.ask(CALL, prefer="b")).key_name for _ in range(3)]

    assert asyncio.run(names()) == ["b", "b", "b"]


def test_a_key_in_the_words_of_a_refusal_is_masked(serve: Serve, respond: Respond) -> None:
    body = json.dumps({"choices": [{"message": {"refusal": f"I know {A}"}}]}).encode()
    failure = Rig(serve(respond(200, body))).failure()

    assert failure.reply == "I know …nary"
    assert A not in repr(failure)


def test_a_key_that_a_server_quotes_is_seen_nowhere(serve: Serve, respond: Respond) -> None:
    quoting = respond(401, error(f"Incorrect API key provided: {A}", "invalid_api_key"))
    rig = Rig(serve(quoting))
    with pytest.raises(RunStopped) as stopped:
        rig.ask()
    failure = Rig(serve(respond(400, error(f"Bad header {A}", f"bad:{A}")))).failure()

    seen = f"{stopped.value!r} {stopped.value} {rig.events} {failure}"
    assert "…nary" in seen
    assert A not in seen
    assert A.encode() not in pickle.dumps((failure, rig.events))


def test_no_call_is_sent_once_all_was_stopped_though_it_had_its_lease(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    rig = Rig(serve({A: [respond(401, error("no", "invalid_api_key"))], "*": [respond()]}), (A, B))

    async def steps() -> list[object]:
        async with rig.engine(max_in_flight=1) as engine:

            def stop(event: Event) -> None:
                if isinstance(event, KeyRetired):  # the lease has just gone to the next in line
                    engine.stop(RunStopped("enough"))

            engine._on_event = stop
            asked = [engine.ask(CALL), engine.ask(CALL)]
            return list(await asyncio.gather(*asked, return_exceptions=True))

    assert [str(end) for end in asyncio.run(steps())] == ["enough"] * 2
    assert len(requests) == 1


def test_a_listener_that_fails_costs_no_lease(
    serve: Serve, respond: Respond, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(serve(respond()))

    def fails(event: Event) -> None:
        raise ValueError(event)

    async def steps() -> list[Reply]:
        async with rig.engine(max_in_flight=1) as engine:
            engine._on_event = fails
            return [await asyncio.wait_for(engine.ask(CALL), 10) for _ in range(2)]

    assert len(asyncio.run(steps())) == 2
    assert "a listener failed" in caplog.text


def test_who_orders_a_stop_hears_of_that_and_not_of_a_key_lost_before(
    serve: Serve, respond: Respond
) -> None:
    rig = Rig(serve({A: [respond(401, error("no", "invalid_api_key"))], "*": [respond()]}), (A, B))

    async def steps() -> None:
        async with rig.engine() as engine:
            await engine.complete(CALL)
            engine.stop(RunStopped("enough"))
            await engine.complete(CALL)

    with pytest.raises(RunStopped, match="enough"):
        asyncio.run(steps())
