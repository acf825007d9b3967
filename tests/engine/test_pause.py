"""All keys spent: the calls wait for config.json, and listeners are told ever more rarely."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gptflow.engine.clock import Clock
from gptflow.engine.config import load_config
from gptflow.engine.engine import Engine
from gptflow.engine.events import (
    ConfigBroken,
    Event,
    KeysBack,
    KeysChanged,
    KeysSpent,
    KeyUsed,
)
from gptflow.errors import RunStopped
from gptflow.records import Call, Reply

SPENT, GOOD, OTHER = (
    "sk-spent-0123456789abcdef",
    "sk-good-0123456789abcdef",
    "sk-other-0123456789abc",
)
QUOTA = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
Serve = Callable[..., str]
Respond = Callable[..., bytes]


def call(text: str = "hi") -> Call:
    return Call(b"k" * 16, "label", "m-1", [{"role": "user", "content": text}], {})


@dataclass
class Bench:
    """A config.json, and an engine that waits when its keys are spent."""

    file: Path
    base_url: str
    heard: list[Event] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, *keys: str, **more: object) -> None:
        listed = [{"name": k[3:8], "api_key": k, "base_url": self.base_url, **more} for k in keys]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"key_list": listed}))
        new.replace(self.file)

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        self.told.set()

    async def hears(self, kind: type[Event]) -> None:
        async with asyncio.timeout(20):
            while not any(isinstance(event, kind) for event in self.heard):
                self.told.clear()
                await self.told.wait()

    def engine(self, *, key_wait_s: float | None = None, clock: Clock | None = None) -> Engine:
        return Engine(
            load_config(self.file, {}),
            concurrency=4,
            key_wait_s=key_wait_s,
            base_wait_s=10.0,
            clock=clock,
            on_event=self.hear,
        )

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.heard if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path, serve: Serve, respond: Respond) -> Bench:
    spent = respond(429, json.dumps(QUOTA).encode())
    made = Bench(tmp_path / "config.json", serve({SPENT: [spent], "*": [respond()]}))
    made.write(SPENT)
    made.file.chmod(0o600)
    return made


def test_calls_wait_for_a_good_config_and_none_is_asked_twice(
    bench: Bench, requests: list[bytes]
) -> None:
    async def steps() -> list[Reply]:
        async with bench.engine() as engine:
            asked = asyncio.gather(*(engine.ask(call(f"row {n}")) for n in range(10)))
            await bench.hears(KeysSpent)
            bench.write(SPENT, GOOD)
            return await asyncio.wait_for(asked, 20)

    replies = asyncio.run(steps())

    assert {reply.key_name for reply in replies} == {"good-"}
    answered = [request for request in requests if GOOD.encode() in request]
    assert len(answered) == len({request.rpartition(b"\r\n")[2] for request in answered}) == 10
    assert sum(SPENT.encode() in request for request in requests) <= 4  # those in flight at first
    kinds = [type(event) for event in bench.heard if not isinstance(event, KeyUsed)]
    assert kinds[-2:] == [KeysChanged, KeysBack]


def test_it_is_told_at_once_and_after_1_2_4_times_the_base_wait(bench: Bench) -> None:
    now = 0.0
    moments: list[tuple[float, float]] = []

    async def sleep(delay_s: float) -> None:
        nonlocal now
        now += delay_s
        await asyncio.sleep(0)
        if len(moments) > 4:
            await asyncio.Event().wait()

    def hear(event: Event) -> None:
        if isinstance(event, KeysSpent):
            moments.append((now, event.waited_s))
        bench.told.set()

    async def steps() -> None:
        clock = Clock(now=lambda: now, sleep=sleep)
        bench.hear = hear  # type: ignore[method-assign]  # this test wants the moments too
        async with bench.engine(clock=clock) as engine:
            asked = asyncio.ensure_future(engine.ask(call()))
            async with asyncio.timeout(20):
                while len(moments) < 5:
                    bench.told.clear()
                    await bench.told.wait()
            asked.cancel()

    asyncio.run(steps())

    assert moments == [(at, at) for at in (0, 10, 20, 40, 80)]


def test_half_a_file_is_reported_and_waited_out(bench: Bench) -> None:
    async def steps() -> Reply:
        async with bench.engine() as engine:
            asked = asyncio.ensure_future(engine.ask(call()))
            await bench.hears(KeysSpent)
            bench.file.write_text('{"key_list": [{"api_key": "sk-go')
            await bench.hears(ConfigBroken)
            assert not asked.done()
            bench.write(GOOD)
            return await asyncio.wait_for(asked, 20)

    assert asyncio.run(steps()).key_name == "good-"


def test_a_spent_key_whose_entry_is_the_same_is_not_asked_again(
    bench: Bench, requests: list[bytes]
) -> None:
    async def steps() -> None:
        async with bench.engine() as engine:
            asked = asyncio.ensure_future(engine.ask(call()))
            await bench.hears(KeysSpent)
            before = len(requests)
            bench.write(SPENT, SPENT.replace("spent", "also-"))
            await asyncio.wait_for(asked, 20)
            assert sum(SPENT.encode() in request for request in requests[before:]) == 0

    asyncio.run(steps())


def test_a_spent_key_comes_back_as_the_hint_says(
    tmp_path: Path, serve: Serve, respond: Respond
) -> None:
    spent = respond(429, json.dumps(QUOTA).encode())
    bench = Bench(tmp_path / "config.json", serve({"*": [spent, respond()]}))
    bench.write(SPENT)

    async def steps() -> Reply:
        async with bench.engine() as engine:
            asked = asyncio.ensure_future(engine.ask(call()))
            await bench.hears(KeysSpent)
            bench.write(SPENT, rpm=600)
            return await asyncio.wait_for(asked, 20)

    assert asyncio.run(steps()).key_name == "spent"
    (told,) = bench.of(KeysSpent)
    assert isinstance(told, KeysSpent)
    assert 'change the entry of one that works again, such as its "rpm"' in told.hint


def test_keys_come_and_go_while_others_work(bench: Bench) -> None:
    async def steps() -> list[str]:
        bench.write(GOOD)
        async with bench.engine() as engine:
            first = await engine.ask(call())
            bench.write(OTHER)
            await bench.hears(KeysChanged)
            return [first.key_name, (await engine.ask(call())).key_name]

    assert asyncio.run(steps()) == ["good-", "other"]
    assert bench.of(KeysChanged) == [KeysChanged(("other",), ("good-",))]


def test_patience_ends_where_it_has_a_limit(bench: Bench) -> None:
    async def steps() -> None:
        async with bench.engine(key_wait_s=0.3) as engine:
            await asyncio.wait_for(engine.ask(call()), 20)

    with pytest.raises(RunStopped, match="no API key is left"):
        asyncio.run(steps())


def test_who_asks_later_waits_anew(bench: Bench) -> None:
    async def steps() -> Reply:
        async with bench.engine(key_wait_s=0.3) as engine:
            with pytest.raises(RunStopped, match="no API key is left"):
                await asyncio.wait_for(engine.ask(call()), 20)
            bench.write(GOOD)
            await bench.hears(KeysChanged)
            return await asyncio.wait_for(engine.ask(call()), 20)

    assert asyncio.run(steps()).key_name == "good-"


def test_a_model_that_no_key_serves_is_not_waited_for(
    bench: Bench, serve: Serve, respond: Respond
) -> None:
    missing = {"error": {"message": "The model m-1 does not exist", "code": "model_not_found"}}
    bench.base_url = serve(respond(404, json.dumps(missing).encode()))
    bench.write(GOOD)

    async def steps() -> None:
        async with bench.engine() as engine:
            await asyncio.wait_for(engine.ask(call()), 20)

    with pytest.raises(RunStopped, match="does not serve it"):
        asyncio.run(steps())


def test_who_stops_meanwhile_does_not_wait(bench: Bench) -> None:
    async def steps() -> None:
        async with bench.engine() as engine:
            asked = asyncio.ensure_future(engine.ask(call()))
            await bench.hears(KeysSpent)
            engine.drain(RunStopped("enough"))
            await asyncio.wait_for(asked, 20)

    with pytest.raises(RunStopped, match="enough"):
        asyncio.run(steps())
