"""What batch mode has left with the provider is called back by the other modes, not paid twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gptflow.cli.main import main
from tests.faults.crashes import CALLS, DONE, Scene, staged
from tests.runner.batch.conftest import ROWS, Desk, done

NUMBERS = range(ROWS)
APOLOGIES = ROWS // 2
LEAVE = ("--no-wait", "--set", "parallelism.batch.requests=100")
"""Leaves one batch with the labels of all rows."""
ASYNC = ("--mode", "async")
API = "gptflow.engine.batch_api"


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def answered(desk: Desk) -> int:
    return desk.stats.batches["lines"]


def cancels(desk: Desk) -> int:
    return desk.stats.batches["cancels"]


def labels(desk: Desk) -> int:
    return sum(question.startswith("Label") for question in desk.chats())


def has_ended(desk: Desk) -> bool:
    return desk.stats.batches["completion_tokens"] > 0


def left_open(desk: Desk) -> int:
    with desk.store() as store:
        return len(store.batches.open(""))


def test_only_what_a_batch_has_not_answered_is_asked(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"latency": "5s"})
    assert desk.run(*LEAVE) == 3
    until(lambda: answered(desk) >= 1)
    assert desk.run(*ASYNC, "--json") == 0
    told, _ = capsys.readouterr()
    assert desk.output() == done(*NUMBERS)
    assert 1 <= answered(desk) < ROWS
    assert labels(desk) == ROWS - answered(desk)
    assert cancels(desk) == 1
    assert left_open(desk) == 0
    summary = msgspec.json.decode(told.splitlines()[-1])
    assert (summary["calls"], summary["reused_calls"]) == (ROWS + APOLOGIES, 0)


def test_it_is_said_what_is_called_back_and_what_came(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"latency": "5s"})
    assert desk.run("--no-wait") == 3
    with pytest.raises(SystemExit):
        main(("run", "spec.yaml", *ASYNC))
    told = capsys.readouterr().err
    assert "3 batches with 10 calls are called back: what they have answered is kept" in told
    assert f"{answered(desk)} of 10 calls have come back with their answers" in told


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_batch_that_has_ended_is_fetched_and_nothing_is_cancelled(desk: Desk, mode: str) -> None:
    desk.serve(batch={"latency": "500ms"})
    assert desk.run(*LEAVE) == 3
    until(lambda: has_ended(desk))
    assert desk.run("--mode", mode, "--set", "parallelism.workers=1") == 0
    assert desk.output() == done(*NUMBERS)
    assert len(desk.chats()) == APOLOGIES
    assert cancels(desk) == 0


def test_what_failed_in_a_batch_is_asked_again(desk: Desk) -> None:
    desk.serve(batch={"latency": "500ms", "lines": [{"name": "server_500", "match": "row 3"}]})
    assert desk.run(*LEAVE) == 3
    until(lambda: has_ended(desk))
    assert desk.run(*ASYNC) == 0
    assert labels(desk) == 1


def test_what_comes_back_costs_what_a_batch_costs(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"latency": "500ms"})
    desk.write_rows(1)
    assert desk.run(*LEAVE) == 3
    until(lambda: has_ended(desk))
    capsys.readouterr()
    price = ("--set", "limits.prices={gpt-4o-mini: {input: 1000, output: 1000}}")
    assert desk.run(*ASYNC, "--json", *price) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    batched = desk.stats.batches["prompt_tokens"] + desk.stats.batches["completion_tokens"]
    alone = desk.stats.prompt_tokens + desk.stats.completion_tokens
    assert told["cost_usd"] == pytest.approx((batched / 2 + alone) / 1000)


def test_a_fresh_run_calls_nothing_back(desk: Desk) -> None:
    desk.serve(batch={"latency": "30s"})
    assert desk.run(*LEAVE) == 3
    assert desk.run(*ASYNC, "--fresh") == 0
    assert labels(desk) == ROWS
    assert cancels(desk) == 0


@pytest.mark.parametrize(
    ("name", "match", "passed"),
    [
        ("server_500", "^GET /v1/batches/", 1),
        ("insufficient_quota", "^GET /v1/batches/", 1),
        ("server_500", "^POST /v1/batches/.*/cancel", 0),
    ],
)
def test_a_provider_that_fails_for_now_stops_the_run_before_a_call(
    desk: Desk, capsys: pytest.CaptureFixture[str], name: str, match: str, passed: int
) -> None:
    broken = {"name": name, "match": match, "after": passed, "first": 1}
    desk.serve(batch={"latency": "5s", "requests": [broken]})
    assert desk.run(*LEAVE) == 3
    capsys.readouterr()
    assert desk.run(*ASYNC, "--set", "limits.outage_s=0.1") == 3
    told = capsys.readouterr().out
    assert "cannot be" in told
    assert "Hint:" in told
    assert desk.chats() == []
    assert left_open(desk) == 1
    assert desk.run(*ASYNC) == 0
    assert labels(desk) == ROWS - answered(desk)


def test_a_batch_of_a_key_that_is_gone_stops_the_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    base_url = desk.serve(batch={"latency": "30s"})
    assert desk.run(*LEAVE) == 3
    desk.write_keys({"api_key": "sk-another-1234567890", "name": "new", "base_url": base_url})
    assert desk.run(*ASYNC) == 3
    assert "is needed to fetch 1 batch with 10 calls" in capsys.readouterr().out
    assert labels(desk) == 0
    assert left_open(desk) == 1


def test_a_batch_that_no_key_may_look_at_is_left_for_one_that_may(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    base_url = desk.serve(batch={"latency": "30s"}, keys={"sk-chats-12345678": {"batch": False}})
    assert desk.run(*LEAVE) == 3
    desk.write_keys({"api_key": "sk-chats-12345678", "base_url": base_url})
    assert desk.run(*ASYNC) == 0
    assert "no key may look at 1 batch with 10 calls: the calls are asked anew" in caplog.text
    assert desk.output() == done(*NUMBERS)
    assert left_open(desk) == 1


def test_answers_that_the_provider_has_removed_are_asked_anew(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    base_url = desk.serve(batch={"latency": "500ms"})
    assert desk.run(*LEAVE) == 3
    until(lambda: has_ended(desk))
    headers = {"authorization": "Bearer sk-test-1234567890"}

    def ask(path: str, method: str) -> bytes:
        asked = urllib.request.Request(f"{base_url}/{path}", headers=headers, method=method)
        with urllib.request.urlopen(asked) as response:
            return bytes(response.read())

    (batch,) = msgspec.json.decode(ask("batches", "GET"))["data"]
    ask(f"files/{batch['output_file_id']}", "DELETE")
    assert desk.run(*ASYNC, "--set", "parallelism.batch.missing_s=0") == 0
    assert "is lost" in caplog.text
    assert labels(desk) == ROWS


def test_a_signal_during_the_wait_leaves_the_batch_for_the_same_command(desk: Desk) -> None:
    desk.serve(batch={"latency": "8s"})
    assert desk.run(*LEAVE) == 3
    until(lambda: answered(desk) >= 1)
    words = [sys.executable, "-m", "gptflow", "run", "spec.yaml", *ASYNC]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until(lambda: cancels(desk) == 1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 143, told
    assert "1 batch with 10 calls is with the provider; the same command goes on with it" in told
    assert desk.chats() == []
    assert left_open(desk) == 1
    assert desk.run(*ASYNC) == 0
    assert desk.output() == done(*NUMBERS)
    assert labels(desk) == ROWS - answered(desk)
    assert cancels(desk) == 1


def test_limits_wall_s_ends_the_wait(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.serve(batch={"latency": "60s"})
    assert desk.run(*LEAVE) == 3
    assert desk.run(*ASYNC, "--set", "limits.wall_s=1") == 3
    assert "limits.wall_s is reached" in capsys.readouterr().out
    assert desk.chats() == []
    assert left_open(desk) == 1


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with staged(tmp_path, batch={"latency": "15s"}) as made:
        yield made


def test_a_run_killed_between_cancel_and_fetch_loses_no_answer(scene: Scene) -> None:
    batch = ("run", "spec.yaml", "--quiet", "--mode", "batch")
    scene.kill_at(f"before {API}:_state", *batch)  # the batch is made, and that is not noted
    scene.kill_at(f"before {API}:BatchApi.look #2")  # it is cancelled
    scene.kill_at(f"before {API}:BatchApi.download")
    scene.kill_at("before gptflow.engine.batch_line:read_line #2")
    scene.finish()
    asked = sum("completions" in entry.path for entry in scene.requests)
    assert asked < CALLS
    assert scene.rows() == DONE
    assert sum(entry.path.endswith("/cancel") for entry in scene.requests) == 1
