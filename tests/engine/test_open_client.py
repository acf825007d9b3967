"""Which client works in this process: with real processes that really fork."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

Serve = Callable[..., str]
Respond = Callable[..., bytes]

PROGRAM = """
import asyncio, os, sys
from contextlib import aclosing
from gptflow.engine.config import KeyEntry
from gptflow.engine.open_client import open_client
from gptflow.engine.secret import Secret

key = KeyEntry("main", Secret("sk-canary-0123456789"), sys.argv[1])

async def send():
    async with aclosing(open_client(timeout_s=10, connections=2)) as client:
        outcome = await client.send(key, "chat/completions", b"{}")
        print(type(client).__name__, outcome.status, flush=True)

def forked(then):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    then()
    os._exit(0)

def once():
    asyncio.run(send())

def once_and_in_a_child():
    once()
    forked(once)

"""


def printed(base_url: str, story: str) -> list[str]:
    """What a process prints that ends with `story`."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM + story, base_url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_process_has_the_fast_client_until_it_is_forked(serve: Serve, respond: Respond) -> None:
    base_url = serve(respond())

    assert printed(base_url, "once(); forked(once); once()") == [
        "Client 200",
        "ForkedClient 200",
        "Client 200",
    ]


def test_a_fork_before_the_first_client_costs_nothing(serve: Serve, respond: Respond) -> None:
    assert printed(serve(respond()), "forked(once); once()") == ["Client 200", "Client 200"]


def test_a_fork_of_a_fork_works(serve: Serve, respond: Respond) -> None:
    assert printed(serve(respond()), "forked(once_and_in_a_child)") == [
        "Client 200",
        "ForkedClient 200",
    ]


def test_openai_is_loaded_by_the_forked_process_alone(serve: Serve, respond: Respond) -> None:
    story = "once(); import json; print(json.dumps('openai' in sys.modules))"

    assert json.loads(printed(serve(respond()), story)[-1]) is False
