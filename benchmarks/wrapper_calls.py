"""What a call of GPTWrapper costs: from 32 threads, in an event loop, and one after the other.

    python benchmarks/wrapper_calls.py [CALLS]

The engine alone shows what the wrapper adds, a bare AsyncOpenAI what the same calls cost with the
SDK. What is compared is the marginal CPU of a call: start-up is not in it. The simulator has a core
of its own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from measuring import measure, simulator

from gptflow import GPTWrapper

CALLERS = 32
MODEL = "gpt-4o-mini"


def prompt(number: int) -> str:
    return f"Question {number}: what is the square root of {number}?"


def alone(config: Path, calls: int) -> None:
    from gptflow.engine.config import load_config
    from gptflow.engine.engine import Engine
    from gptflow.records import Call

    async def main() -> None:
        async with Engine(load_config(config), strategy="sequential") as engine:

            async def ask(number: int) -> None:
                messages = [{"role": "user", "content": prompt(number)}]
                await engine.complete(Call(b"", "", MODEL, messages, {"temperature": 0}))

            await at_once(ask, calls)

    uvloop.run(main())


def sdk(config: Path, calls: int) -> None:
    import json

    from openai import AsyncOpenAI

    entry = json.loads(config.read_text())["key_list"][0]

    async def main() -> None:
        client = AsyncOpenAI(api_key=entry["api_key"], base_url=entry["base_url"])

        async def ask(number: int) -> None:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": prompt(number)}], temperature=0
            )

        await at_once(ask, calls)

    uvloop.run(main())


def in_a_loop(config: Path, calls: int) -> None:
    wrapper = GPTWrapper(config)

    async def ask(number: int) -> None:
        await wrapper.acompletions_with_backoff(MODEL, prompt(number), temperature=0)

    asyncio.run(at_once(ask, calls))


def in_threads(config: Path, calls: int) -> None:
    wrapper = GPTWrapper(config)

    def ask(number: int) -> None:
        wrapper.completions_with_backoff(MODEL, prompt(number), temperature=0)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(ask, range(calls)))


def in_turn(config: Path, calls: int) -> None:
    wrapper = GPTWrapper(config)
    for number in range(calls):
        wrapper.completions_with_backoff(MODEL, prompt(number), temperature=0)


async def at_once(ask: Callable[[int], Awaitable[None]], calls: int) -> None:
    """A fixed number of callers over one lazy iterator."""
    numbers: Iterator[int] = iter(range(calls))

    async def call() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(call() for _ in range(CALLERS)))


WAYS: dict[str, Callable[[Path, int], None]] = {
    "alone": alone,
    "in_a_loop": in_a_loop,
    "in_threads": in_threads,
    "in_turn": in_turn,
    "sdk": sdk,
}
NAMES = {
    "alone": "the engine alone",
    "in_a_loop": "acompletions_with_backoff",
    "in_threads": f"completions_with_backoff, {CALLERS} threads",
    "in_turn": "completions_with_backoff, one thread",
    "sdk": "AsyncOpenAI",
}
FEW_CALLS = 200
ROUNDS = 3
"""The quickest of each counts: what else the machine does must not."""


def command(way: str, config: Path, calls: int) -> list[str]:
    return [sys.executable, __file__, way, str(config), str(calls)]


def main(calls: int) -> None:
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)):
        config = Path(name) / "config.json"
        config.chmod(0o600)
        for way, told in NAMES.items():
            few, many = [], []
            for _ in range(ROUNDS):
                few.append(measure(command(way, config, FEW_CALLS)))
                many.append(measure(command(way, config, FEW_CALLS + calls)))
            cpu_s = min(run.cpu_s for run in many) - min(run.cpu_s for run in few)
            wall_s = min(run.wall_s for run in many) - min(run.wall_s for run in few)
            cost = f"{1e6 * cpu_s / calls:6,.0f} us CPU a call"
            print(f"{told:<38} {cost} {calls / wall_s:8,.0f} calls/s", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        WAYS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
