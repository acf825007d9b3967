"""The clients that gptflow is measured against, each one a loop over rows as a user would write it.

Run as a program: `python benchmarks/clients.py CLIENT ROWS CONCURRENCY BASE_URL`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator

MODEL = "gpt-4o-mini"
SYSTEM = "You label product reviews."
Ask = Callable[[str], Awaitable[str]]


def prompt(number: int) -> str:
    """The prompt of a row: about 60 tokens, another one for each row."""
    text = f"Review {number}: the parcel came late, the lid was loose, yet it works as promised. "
    return f"Label this review as one of positive, negative, neutral.\n{text * 2}"


async def work(ask: Ask, rows: int, concurrency: int) -> None:
    """A fixed number of workers over one lazy iterator: the fair form of a hand-written loop."""
    numbers: Iterator[int] = iter(range(rows))

    async def worker() -> None:
        for number in numbers:
            await ask(prompt(number))

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def bare_sdk(rows: int, concurrency: int, base_url: str) -> None:
    """The openai package's AsyncOpenAI, as its README has it."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="sk-benchmark", base_url=base_url, max_retries=0) as client:

        async def ask(text: str) -> str:
            reply = await client.chat.completions.create(
                model=MODEL,
                messages=[
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": text},
                ],
                temperature=0,
            )
            return reply.choices[0].message.content or ""

        await work(ask, rows, concurrency)


async def raw_http(rows: int, concurrency: int, base_url: str) -> None:
    """A loop over pyreqwest with msgspec: the floor, which does nothing but send and read."""
    import msgspec
    from pyreqwest.client import ClientBuilder

    url = f"{base_url}/chat/completions"
    async with (
        ClientBuilder().default_headers({"Authorization": "Bearer sk-benchmark"}).build() as client
    ):

        async def ask(text: str) -> str:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
            body = msgspec.json.encode({"model": MODEL, "messages": messages, "temperature": 0})
            request = client.post(url).header("content-type", "application/json").body_bytes(body)
            response = await request.build().send()
            reply = msgspec.json.decode(bytes(await response.bytes()))
            return str(reply["choices"][0]["message"]["content"])

        await work(ask, rows, concurrency)


CLIENTS = {"bare_sdk": bare_sdk, "raw_http": raw_http}


def main() -> None:
    """Runs one client to its end."""
    name, rows, concurrency, base_url = sys.argv[1:]
    coroutine = CLIENTS[name](int(rows), int(concurrency), base_url)
    if name == "raw_http":
        from uvloop import run

        run(coroutine)
    else:
        asyncio.run(coroutine)


if __name__ == "__main__":
    main()
