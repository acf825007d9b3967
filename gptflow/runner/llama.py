"""The process that serves a local model: llama.cpp's server for as long as its stdin is open.

It is started by `runner.local` by its path, and imports nothing of gptflow, so that it starts at
once and whatever the user's folder holds. It reads one line of JSON, the settings, from stdin, and
writes one line of JSON to stdout once the model is loaded: `{"address": ...}` or `{"error": ...}`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TypedDict

MAX_REPLY_TOKENS = 1024
"""For a call that sets no max_tokens: a small model that repeats itself would fill its context."""
ERRORS_ONLY = 1
"""llama.cpp's level of log lines; the default, 3, writes some ten lines a call."""


class Settings(TypedDict):
    """What the parent process asks for."""

    model_path: str
    model_name: str
    slots: int
    """Conversations that are served at once."""
    slot_tokens: int
    """Context of each slot."""
    threads: int


def main() -> None:
    """Serves until stdin ends, which it does however the parent process dies."""
    settings: Settings = json.loads(sys.stdin.buffer.readline())
    server, answer = _start(settings)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if server is not None:
        sys.stdin.buffer.read()
    # Not sys.exit: closing a server that has calls in flight hangs, and there is nothing to save.
    os._exit(0)


def _start(settings: Settings) -> tuple[Any, dict[str, str]]:
    import xllamacpp

    try:
        server = xllamacpp.Server(_params(settings))
    except RuntimeError as error:  # what every failure of llama.cpp to start comes as
        return None, {"error": str(error)}
    return server, {"address": server.listening_address}


def _params(settings: Settings) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model_path"]
    params.model_alias = {settings["model_name"]}
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["slot_tokens"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_predict = MAX_REPLY_TOKENS
    params.verbosity = ERRORS_ONLY
    params.cache_ram_mib = 0  # else up to 8 GB for prompts that another slot has pushed out
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cors_origins = "http://127.0.0.1"  # the default lets any web page ask
    params.ui = False
    params.endpoint_slots = False  # it would show the prompts in flight
    return params


if __name__ == "__main__":
    main()
