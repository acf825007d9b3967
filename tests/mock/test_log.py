from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from gptflow.errors import ConfigError
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.mock.conftest import Serve


def test_each_request_is_a_line(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    log.write_text('{"number": 0}\n')
    served = serve(log=log, failures=[{"name": "server_500", "after": 1}])
    served.ask("Hello there", key="sk-secret-7890")
    served.ask("Hello there", key="sk-secret-7890")
    served.send("GET", "/nowhere")
    lines = _lines(log, 4)
    first, second, third = lines[1:]
    assert first["request"] == second["request"]
    assert (first["status"], first["failure"], first["answered"]) == (200, None, True)
    assert (second["status"], second["failure"]) == (500, "server_500")
    assert (first["prompt_tokens"], first["completion_tokens"]) == (3, 3)
    assert (second["prompt_tokens"], second["completion_tokens"]) == (0, 0)
    assert (first["number"], first["key"], first["user"]) == (1, "7890", "Hello there")
    assert (third["status"], third["path"], third["request"]) == (404, "/v1/nowhere", None)
    assert b"secret" not in log.read_bytes()


def _lines(path: Path, count: int) -> list[dict[str, object]]:
    """The log once it has so many lines: it is written while the server runs."""
    deadline_s = time.monotonic() + 5
    while path.read_bytes().count(b"\n") < count and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_request_is_a_hash_of_the_canonical_body(serve: Serve) -> None:
    served = serve()
    served.ask("x")
    body = '{"messages":[{"content":"x","role":"user"}],"model":"gpt-4o-mini"}'
    assert served.noted()[0].request == hashlib.sha256(body.encode()).hexdigest()


def test_long_messages_are_cut(serve: Serve) -> None:
    served = serve()
    served.ask("x" * 500)
    assert served.noted()[0].user == "x" * 200


def test_the_log_is_whole_when_the_server_has_stopped(serve: Serve, tmp_path: Path) -> None:
    scenario = Scenario(log=tmp_path / "requests.jsonl")
    with MockServer(scenario) as server:
        served = serve()._replace(server=server)
        for number in range(50):
            served.ask(str(number))
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 50


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="log cannot be written: No such file"):
        MockServer(Scenario(log=tmp_path / "missing" / "requests.jsonl"))
