"""How a process ends that has used the wire: with real processes, on one CPU alone.

There the thread of the wire is often not out of Python yet when the loop that it woke goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROCESSES = 8

PROGRAM = """
import asyncio, os, sys
from gptflow.engine.client import Client
from gptflow.engine.config import KeyEntry
from gptflow.engine.secret import Secret

async def send():
    client = Client(timeout_s=10, connections=2)
    for _ in range(20):
        await client.send(key, "chat/completions", b"{}")
    await client.aclose()

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.setswitchinterval(60)
key = KeyEntry("main", Secret("sk-canary-0123456789"), "http://127.0.0.1:1/v1")
asyncio.run(send())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux: one CPU alone")
def test_a_process_that_ends_right_after_a_call_is_not_aborted() -> None:
    command = [sys.executable, "-c", PROGRAM]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(PROCESSES)]
    said = [process.communicate(timeout=60)[1] for process in running]

    assert said == [b""] * PROCESSES
    assert [process.returncode for process in running] == [0] * PROCESSES
