"""Functions for the pipelines of the tests, where worker processes can import them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gptflow.wrapper.gpt_wrapper import GPTWrapper
from tests.wrapper.desk import MODEL


def ask(_: int, wrapper: GPTWrapper, chunk: list[Any]) -> list[str]:
    return [wrapper.completions_with_backoff(engine=MODEL, messages=str(item)) for item in chunk]


def tell_all(pid: int, _: GPTWrapper, chunk: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
    return [(pid, item, args, kwargs) for item in chunk]


def sleep_or(chunk: list[Any], folder: Path) -> bool:
    """Whether this is the worker that has the "bad" item, once all others have begun to sleep.

    The others sleep until they are ended, and leave a note about it.
    """
    if "bad" in chunk:
        while len(list(folder.glob("asleep-*"))) < 1:
            time.sleep(0.01)
        return True
    (folder / f"asleep-{os.getpid()}").touch()
    try:
        threading.Event().wait(60)
    finally:
        (folder / f"ended-{os.getpid()}").touch()
    return False


def crash(_: int, __: GPTWrapper, chunk: list[Any], folder: Path) -> list[Any]:
    if sleep_or(chunk, folder):
        raise LookupError("the bad item")
    return chunk


def be_killed(_: int, __: GPTWrapper, chunk: list[Any], folder: Path) -> list[Any]:
    if sleep_or(chunk, folder):
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def leave(_: int, __: GPTWrapper, chunk: list[Any], folder: Path) -> list[Any]:
    if sleep_or(chunk, folder):
        sys.exit(3)
    return chunk


def give_nothing(_: int, __: GPTWrapper, ___: list[Any]) -> None:
    return None


def give_a_lock(_: int, __: GPTWrapper, ___: list[Any]) -> list[Any]:
    return [threading.Lock()]
