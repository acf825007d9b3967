"""What comes of batches, where it does not come as it should; and commands that are left early."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gptflow.runner.batch.flights import Flight
from gptflow.runner.batch.harvest import Harvest
from gptflow.store.batches import BatchCall, BatchDraft
from gptflow.store.store import Store
from tests.runner.batch.conftest import ROWS, Desk, done
from tests.store.conftest import draft, rows

NUMBERS = range(ROWS)
EMPTY: dict[str, Any] = {"name": "empty_body", "match": "GET /v1/files/.*/content"}


def test_a_file_that_lacks_lines_is_fetched_again_and_nothing_is_charged(desk: Desk) -> None:
    desk.serve(batch={"requests": [EMPTY | {"first": 2}]})
    assert desk.run("--set", "limits.attempts=1") == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15


def test_a_file_that_goes_on_lacking_lines_stops_the_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"requests": [EMPTY]})
    assert desk.run("--set", "parallelism.batch.missing_s=0") == 3
    assert "its files lack" in capsys.readouterr().out
    assert desk.submitted() == [4, 4, 2]


def test_a_reply_counts_more_than_an_error_for_the_same_call(tmp_path: Path) -> None:
    key = b"k" * 16
    body = {"choices": [{"message": {"content": "good"}, "finish_reason": "stop"}]}
    good = {"custom_id": key.hex(), "response": {"status_code": 200, "body": body}}
    bad = {"custom_id": key.hex(), "error": {"code": "oops"}}
    told = tmp_path / "told.jsonl"
    told.write_text("".join(json.dumps(line) + "\n" for line in (bad, good, bad)) + "odd\n")

    async def work(store: Store) -> int:
        batch = BatchDraft(
            run_id=1,
            token="t",
            model="m",
            endpoint="chat/completions",
            calls=1,
            tokens=1,
            size_bytes=1,
            digest="",
        )
        flight = Flight(store.batches.begin(batch, [BatchCall(key, "label", 1)]))
        harvest = Harvest(store, 1, 1, None, lambda _: None)
        return await harvest.bring_in(flight, told)

    with Store.open(tmp_path / "a.db") as store:
        store.begin_run(draft(), rows("a"))
        assert asyncio.run(work(store)) == 1
        assert store.reader.find_reply(key) == json.dumps(body).encode()
        assert not store.batches.has_faults(1)


def test_a_key_whose_server_is_gone_is_set_aside(desk: Desk) -> None:
    base_url = desk.serve()
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"
        desk.write_keys(
            {"api_key": "sk-gone-1234567890", "name": "gone", "base_url": gone},
            {"api_key": "sk-test-1234567890", "name": "good", "base_url": base_url},
        )
        assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)


def test_a_fresh_run_says_what_it_leaves_with_the_provider(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.serve(batch={"latency": "500ms"})
    assert desk.run("--no-wait") == 3
    assert desk.run("--fresh", "--no-wait") == 3
    assert "3 batches with 10 calls are with the provider from before --fresh" in caplog.text


def test_a_signal_ends_a_command_that_waits_for_a_silent_server(desk: Desk) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        desk.write_keys({"api_key": "sk-test-1234567890", "base_url": base_url})
        words = [sys.executable, "-m", "gptflow", "run", "spec.yaml"]
        process = subprocess.Popen(
            [*words, "--set", "limits.timeout_s=600"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 143, told
