"""An outage: when every key fails, calls are held, probed one at a time, and not charged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from gptflow.engine.clock import Clock
from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.events import CallRetried, Event, OutageBegan, OutageEnded
from gptflow.engine.outage import Absence, Outage
from gptflow.engine.secret import Secret
from gptflow.errors import CallFailed, RunStopped
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.records import Call, FailureKind, Reply


def call(text: str) -> Call:
    return Call(b"k" * 16, "label", "m-1", [{"role": "user", "content": text}], {})


@dataclass
class Bench:
    """A server that can be taken away and brought back, and an engine whose waits are short."""

    keys: int = 2
    heard: list[Event] = field(default_factory=list)
    asked: list[LogEntry] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, delay_s: float) -> None:
        """A second of the engine's is 20 ms here."""
        self.slept.append(delay_s)
        await asyncio.sleep(delay_s / 50)

    def server(self, port: int = 0, **scenario: Any) -> MockServer:
        made = Scenario.model_validate(scenario)
        return MockServer(made, port=port, on_request=self.asked.append)

    def engine(self, base_url: str, attempts: int = 3, outage_s: float = 3600.0) -> Engine:
        entries = [
            KeyEntry(f"k{n}", Secret(f"sk-0123456789abcdef-{n}"), base_url)
            for n in range(self.keys)
        ]
        return Engine(
            Config(tuple(entries), origin="config.json"),
            concurrency=8,
            attempts=attempts,
            timeout_s=5.0,
            outage_s=outage_s,
            clock=Clock(sleep=self.sleep),
            on_event=self.hear,
        )

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.heard if isinstance(event, kind)]

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, OutageBegan):
            self.began.set()


def test_a_server_that_is_gone_for_a_while_costs_no_call() -> None:
    bench = Bench()

    async def steps() -> list[Reply]:
        first = bench.server()
        with first:
            port = int(first.base_url.split(":")[2].split("/")[0])
            engine = bench.engine(first.base_url)
            async with engine:
                await engine.ask(call("is there"))
                await asyncio.to_thread(first.__exit__, None, None, None)
                asked = asyncio.gather(*(engine.ask(call(f"row {n}")) for n in range(30)))
                await asyncio.wait_for(bench.began.wait(), 20)
                await asyncio.sleep(0.5)  # 25 seconds of the engine's: more than 3 attempts take
                assert not asked.done()
                with bench.server(port):
                    return await asyncio.wait_for(asked, 20)

    replies = asyncio.run(steps())

    assert len(replies) == 30
    assert len(bench.of(OutageBegan)) == len(bench.of(OutageEnded)) == 1


def test_an_outage_that_lasts_too_long_fails_what_is_held_and_no_more() -> None:
    bench = Bench()

    async def steps() -> list[object]:
        first = bench.server()
        with first:
            port = int(first.base_url.split(":")[2].split("/")[0])
            async with bench.engine(first.base_url, outage_s=0.3) as engine:
                await engine.ask(call("is there"))
                await asyncio.to_thread(first.__exit__, None, None, None)
                asked = [engine.ask(call(f"row {n}")) for n in range(12)]
                ends = await asyncio.gather(*asked, return_exceptions=True)
                with bench.server(port):
                    return [*ends, await engine.ask(call("is there again"))]

    *ends, last = asyncio.run(asyncio.wait_for(steps(), 20))

    assert all(isinstance(end, RunStopped | CallFailed) for end in ends)
    assert any("no server has answered for" in str(end) for end in ends)
    assert isinstance(last, Reply)


def test_who_is_interrupted_while_calls_back_off_sends_none_of_them_again() -> None:
    bench = Bench()
    busy: dict[str, Any] = {"failures": [{"name": "server_500", "match": "row"}]}

    async def steps() -> list[object]:
        with bench.server(**busy) as server:
            async with bench.engine(server.base_url, attempts=9) as engine:
                await engine.ask(call("is there"))
                asked = [asyncio.ensure_future(engine.ask(call(f"row {n}"))) for n in range(4)]
                await asyncio.sleep(0.05)
                engine.drain(RunStopped("enough"))
                sent = len(bench.asked) + engine.in_flight
                ends = await asyncio.gather(*asked, return_exceptions=True)
                assert len(bench.asked) <= sent
                return list(ends)

    ends = asyncio.run(asyncio.wait_for(steps(), 20))

    assert [str(end) for end in ends] == ["enough"] * 4


def test_errors_of_the_server_on_every_key_are_an_outage() -> None:
    bench = Bench()
    away: dict[str, Any] = {"failures": [{"name": "server_500", "after": 1, "first": 25}]}

    async def steps() -> list[Reply]:
        with bench.server(**away) as server:
            async with bench.engine(server.base_url) as engine:
                await engine.ask(call("is there"))
                asked = [engine.ask(call(f"row {n}")) for n in range(40)]
                return list(await asyncio.wait_for(asyncio.gather(*asked), 20))

    assert len(asyncio.run(steps())) == 40
    assert len(bench.asked) < 2 * 40  # held, and not hammered


def test_a_row_that_breaks_the_server_is_no_outage() -> None:
    bench = Bench()
    odd: dict[str, Any] = {"failures": [{"name": "server_500", "match": "odd"}]}

    async def steps() -> list[object]:
        with bench.server(**odd) as server:
            async with bench.engine(server.base_url) as engine:
                texts = ["odd", *(f"row {n}" for n in range(20))]
                asked = [engine.ask(call(text)) for text in texts]
                return list(await asyncio.gather(*asked, return_exceptions=True))

    first, *others = asyncio.run(steps())

    assert isinstance(first, CallFailed)
    assert first.failure.kind is FailureKind.SERVER
    assert first.failure.attempts == 3
    assert all(isinstance(reply, Reply) for reply in others)
    assert not bench.of(OutageBegan)


def test_one_key_whose_host_is_gone_is_no_outage_while_another_answers() -> None:
    bench = Bench()

    async def steps() -> list[Reply]:
        with bench.server() as server:
            dead = KeyEntry("dead", Secret("sk-0123456789abcdef-9"), "http://127.0.0.1:9/v1")
            alive = KeyEntry("alive", Secret("sk-0123456789abcdef-1"), server.base_url)
            engine = Engine(
                Config((dead, alive), origin="config.json"),
                concurrency=8,
                clock=Clock(sleep=bench.sleep),
                on_event=bench.hear,
            )
            async with engine:
                asked = [engine.ask(call(f"row {n}")) for n in range(30)]
                return list(await asyncio.gather(*asked))

    assert {reply.key_name for reply in asyncio.run(steps())} == {"alive"}
    assert not bench.of(OutageBegan)
    assert bench.of(CallRetried)


def test_the_probes_come_at_growing_intervals() -> None:
    now = 0.0
    tried: list[float] = []

    async def sleep(delay_s: float) -> None:
        nonlocal now
        now += delay_s
        tried.append(now)
        await asyncio.sleep(0)

    async def steps() -> None:
        outage = Outage(Clock(now=lambda: now, sleep=sleep), lambda _: None, longest_s=900)
        outage.answered()
        for number in range(3):
            gone = Absence("a", number, "refused", reached=False, is_unavailable=False)
            outage.failed(gone, active=3, in_service=lambda: frozenset({"a"}))
        held = [outage.hold() for _ in range(99)]
        ends = await asyncio.gather(*held, return_exceptions=True)
        assert sum(isinstance(end, RunStopped) for end in ends) > 50

    asyncio.run(asyncio.wait_for(steps(), 10))

    waits = [later - earlier for earlier, later in pairwise([0.0, *tried])]
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits == sorted(waits)
    assert waits[-1] == 60.0


def test_an_outage_is_noticed_where_another_key_rests_for_hours_or_lacks_the_model() -> None:
    bench = Bench()
    away: dict[str, Any] = {
        "keys": {
            "sk-0123456789abcdef-1": {"failure": "rate_limit_rpd"},
            "sk-0123456789abcdef-2": {"failure": "model_not_found"},
        },
        "failures": [{"name": "server_500", "after": 9, "first": 25}],
    }
    bench.keys = 3

    async def steps() -> list[Reply]:
        with bench.server(**away) as server:
            async with bench.engine(server.base_url) as engine:
                first = [engine.ask(call(f"is there {n}")) for n in range(9)]
                await asyncio.gather(*first)
                asked = [engine.ask(call(f"row {n}")) for n in range(40)]
                return list(await asyncio.wait_for(asyncio.gather(*asked), 20))

    assert len(asyncio.run(steps())) == 40


def test_a_server_that_goes_under_a_call_that_is_alone_costs_one_attempt() -> None:
    """Its connection breaks, and then there is none for longer than the attempts take."""
    attempts = 2
    bench = Bench(keys=1)
    hangs: dict[str, Any] = {"failures": [{"name": "hang", "match": "row"}]}

    async def steps() -> Reply:
        first = bench.server(**hangs)
        with first:
            port = int(first.base_url.split(":")[2].split("/")[0])
            async with bench.engine(first.base_url, attempts=attempts) as engine:
                await engine.ask(call("is there"))
                asked = asyncio.ensure_future(engine.ask(call("row")))
                await asyncio.sleep(0.2)
                await asyncio.to_thread(first.__exit__, None, None, None)
                await asyncio.wait_for(bench.began.wait(), 20)
                with bench.server(port):
                    return await asyncio.wait_for(asked, 20)

    assert asyncio.run(steps()).attempts > attempts


@pytest.mark.parametrize("failure", ["server_500", "reset_before_reply"])
def test_a_row_that_breaks_the_server_fails_also_where_it_is_alone(failure: str) -> None:
    bench = Bench(keys=1)
    odd: dict[str, Any] = {"failures": [{"name": failure, "match": "odd"}]}

    async def steps() -> CallFailed:
        with bench.server(**odd) as server:
            async with bench.engine(server.base_url) as engine:
                await engine.ask(call("is there"))
                with pytest.raises(CallFailed) as failed:
                    await asyncio.wait_for(engine.ask(call("odd")), 20)
                await asyncio.wait_for(engine.ask(call("is still there")), 20)
                return failed.value

    assert asyncio.run(steps()).failure.attempts == 3
    assert len(bench.asked) == 1 + 3 + 1
    assert not bench.of(OutageBegan)


def test_a_row_that_breaks_the_server_makes_no_outage_last() -> None:
    """It alone probes when the server is back; the next call does when it has failed."""
    bench = Bench(keys=1)
    odd: dict[str, Any] = {"failures": [{"name": "server_500", "match": "odd"}]}

    async def steps() -> CallFailed:
        first = bench.server()
        with first:
            port = int(first.base_url.split(":")[2].split("/")[0])
            async with bench.engine(first.base_url) as engine:
                await engine.ask(call("is there"))
                await asyncio.to_thread(first.__exit__, None, None, None)
                asked = asyncio.ensure_future(engine.ask(call("odd")))
                await asyncio.wait_for(bench.began.wait(), 20)
                with bench.server(port, **odd):
                    with pytest.raises(CallFailed) as failed:
                        await asyncio.wait_for(asked, 20)
                    await asyncio.wait_for(engine.ask(call("is there again")), 20)
                return failed.value

    assert asyncio.run(steps()).failure.attempts == 3
    assert len(bench.of(OutageEnded)) == 1


def test_calls_one_after_the_other_lose_two_at_most_to_errors_of_a_server_that_is_away() -> None:
    bench = Bench(keys=1)
    away: dict[str, Any] = {"failures": [{"name": "server_500", "after": 1, "first": 12}]}

    async def steps() -> list[object]:
        with bench.server(**away) as server:
            async with bench.engine(server.base_url) as engine:
                ends: list[object] = [await engine.ask(call("is there"))]
                for number in range(5):
                    asked = asyncio.gather(
                        engine.ask(call(f"row {number}")), return_exceptions=True
                    )
                    ends += await asyncio.wait_for(asked, 20)
                return ends

    assert sum(isinstance(end, CallFailed) for end in asyncio.run(steps())) == 2
