"""Wrappers in other processes, and the ends of processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from gptflow import GPTWrapper

from .conftest import CHAT, KEY, Api

Serve = Callable[..., Api]
FORKS = ("-W", "ignore:This process:DeprecationWarning")
"""Python from 3.12 on warns of a fork with threads around."""


def test_a_wrapper_travels_without_its_keys(api: Api) -> None:
    with api.wrapper(base_wait_time=7, attempts=3) as wrapper:
        sent = pickle.dumps(wrapper)
        assert KEY.encode() not in sent
        with pickle.loads(sent) as received:
            assert isinstance(received, GPTWrapper)
            assert received.completions_with_backoff(**CHAT) == "hi"
        assert wrapper.completions_with_backoff(**CHAT) == "hi"


def test_a_wrapper_that_prefers_a_key_travels_as_such(api: Api) -> None:
    api.write_config("sk-one-1", "sk-two-2")

    with api.wrapper() as wrapper, copy.deepcopy(wrapper.starting_at(1)) as received:
        assert received.complete(**CHAT).key_name == "key 2"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_wrapper_works_in_the_processes_of_a_pool(api: Api, method: str) -> None:
    (api.folder / "job.py").write_text(
        "def ask(wrapper, text):\n    return wrapper.completions_with_backoff('m', text)\n"
    )
    out = api.python(
        f"""
import multiprocessing, job
from functools import partial
if __name__ == "__main__":
    ask("used before")
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(partial(job.ask, wrapper), ["a", "b", "c"]))
    print(ask("used after"))
""",
        *FORKS,
    )
    assert out == "['a', 'b', 'c']\nused after\n"


def test_a_fork_leaves_the_calls_in_flight_to_the_parent(serve: Serve) -> None:
    api = serve(latency="200ms")
    out = api.python(
        """
import os, sys, threading, time
answers = []
thread = threading.Thread(target=lambda: answers.append(ask("parent")))
thread.start()
time.sleep(0.1)
child = os.fork()
if child == 0:
    print(ask("child"), flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
print(answers, ask("again"))
""",
        *FORKS,
    )
    assert out == "child\n['parent'] again\n"
    assert sorted(body["messages"][0]["content"] for body in api.bodies) == [
        "again",
        "child",
        "parent",
    ]


def test_a_forked_child_that_only_ends_leaves_the_parent_alone(api: Api) -> None:
    out = api.python(
        """
import gc, os, sys
ask()
child = os.fork()
if child == 0:
    del wrapper
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(ask("parent"))
""",
        *FORKS,
    )
    assert out == "parent\n"


@pytest.mark.parametrize(
    "program",
    [
        "print(ask())",
        "print(ask()); wrapper.close()",
        "print(ask()); del wrapper",
        "ask(); import atexit; atexit.register(lambda: print(ask()))",
        "import asyncio; print(asyncio.run(wrapper.acompletions_with_backoff('m', 'hi')))",
        "import threading; threading.Thread(target=lambda: print(ask())).start()",
    ],
)
def test_a_program_ends_without_a_word(api: Api, program: str) -> None:
    assert api.python(program, "-W", "error") == "hi\n"


@pytest.mark.parametrize(
    "program",
    [
        "threading.Thread(target=ask, daemon=True).start()",
        "[threading.Thread(target=ask, daemon=True).start() for _ in range(20)]",
        (
            "call = lambda: asyncio.run(wrapper.acompletions_with_backoff('m', 'hi'))\n"
            "threading.Thread(target=call, daemon=True).start()"
        ),
    ],
)
def test_a_program_ends_at_once_with_calls_in_flight(serve: Serve, program: str) -> None:
    api = serve(failures={"hang": "100%"})
    out = api.python(f"import asyncio, threading, time\n{program}\ntime.sleep(0.3)\nprint('end')")

    assert out == "end\n"
    assert api.server.requests >= 1


def test_a_wrapper_may_be_loaded_in_a_thread_that_ends(api: Api) -> None:
    (api.folder / "plain.py").write_text(
        """
import threading

def live():
    from gptflow import GPTWrapper
    with GPTWrapper() as wrapper:
        print(wrapper.completions_with_backoff("m", "hi"), flush=True)

for _ in range(4):
    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
"""
    )
    assert (
        api.python(
            "del wrapper; import subprocess, sys\n"
            "subprocess.run([sys.executable, 'plain.py'], check=True)"
        )
        == "hi\n" * 4
    )


def test_openai_is_loaded_by_the_first_error_only(serve: Serve) -> None:
    api = serve(failures=[{"name": "context_length_exceeded", "match": "long"}])
    out = api.python(
        """
import sys
ask("short")
print("openai" in sys.modules)
try:
    ask("long")
except Exception as error:
    import openai
    print(isinstance(error, openai.BadRequestError))
"""
    )
    assert out == "False\nTrue\n"
