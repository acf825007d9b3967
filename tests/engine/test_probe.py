"""What a key is said to be, by what its server answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gptflow.engine.config import KeyEntry
from gptflow.engine.probe import AT_A_TIME, KeyReport, probe_keys
from gptflow.engine.secret import Secret
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer

CANARY = "sk-canary-0123456789abcdefwxyz"
HEADER = "token-0123456789"
Serve = Callable[..., str]
Respond = Callable[..., bytes]

MODELS = json.dumps({"object": "list", "data": [{"id": "m-1"}, {"id": "models/m-2"}]}).encode()


def entry(base_url: str, key: str = CANARY, **more: Any) -> KeyEntry:
    headers = (("x-token", Secret(HEADER)),)
    return replace(KeyEntry("main", Secret(key), base_url, headers=headers), **more)


def probed(key: KeyEntry, ask: str | None = None, timeout_s: float = 5.0) -> KeyReport:
    (report,) = asyncio.run(probe_keys([key], ask=ask, timeout_s=timeout_s))
    assert CANARY not in repr(report)
    assert HEADER not in repr(report)
    return report


def error(message: str, code: str | None = None, kind: str = "") -> bytes:
    return json.dumps({"error": {"message": message, "code": code, "type": kind}}).encode()


def test_a_key_that_lists_models_works(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    base_url = serve(respond(200, MODELS))
    report = probed(entry(base_url, organization="org-1"))

    host = base_url.removeprefix("http://").removesuffix("/v1")
    expected = KeyReport("main", "…wxyz", host, "org-1", "works", models=2)
    assert (report, report.works) == (expected, True)
    assert requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"\r\nopenai-organization: org-1\r\n" in requests[0].lower()


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        ((401, error("Incorrect key: " + CANARY, "invalid_api_key")), "invalid", '"api_key"'),
        ((401, error("Wrong one", "mismatched_organization")), "wrong organization", "belongs to"),
        ((429, error("No quota", "insufficient_quota")), "spent", "credit"),
        ((429, error("Slow. Try again in 20s", "rate_limit_exceeded")), "resting", "again in 20 s"),
        ((403, error("Not this project")), "not allowed", "Not this project"),
        ((403, error(f"{HEADER} is bad", "x")), "not allowed", "is bad"),
        ((404, b'{"detail":"Not Found"}'), "no such path", "ends in /v1"),
        ((405, b""), "no such path", "--ask MODEL"),
        ((302, b""), "no such path", "ends in /v1"),
        ((503, b"<html><title>Down</title>"), "server error", "Down"),
        ((200, b"<html><title>Hello</title>"), "no API there", "ends in /v1"),
        ((200, b"{}"), "no API there", "not with models"),
        ((200, error("No credits", "402")), "spent", "No credits"),
    ],
)
def test_a_key_that_does_not_work_is_told_why(
    serve: Serve, respond: Respond, answer: tuple[int, bytes], state: str, says: str
) -> None:
    report = probed(entry(serve(respond(*answer))))

    assert (report.state, report.works, report.models) == (state, False, None)
    assert says in f"{report.message} {report.hint}"


@pytest.mark.parametrize(
    ("answer", "state"), [(b"HANG:", "no answer"), (b"CUT:", "broken off"), (b"DRIP:", "no answer")]
)
def test_a_server_that_does_not_answer_is_no_long_wait(
    serve: Serve, answer: bytes, state: str
) -> None:
    key = entry(serve(answer), timeout_s=600.0)

    assert probed(key, timeout_s=0.3).state == state


def test_a_port_that_nobody_serves_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    report = probed(entry(f"http://127.0.0.1:{port}/v1"))
    assert report.state == "no connection"
    assert report.hint == 'check "base_url", and whether the server runs'


def test_models_that_the_server_does_not_list_are_named(serve: Serve, respond: Respond) -> None:
    report = probed(entry(serve(respond(200, MODELS)), models=("m-1", "m-2", "m-3")))

    assert (report.works, report.message) == (True, "does not list m-3")


def test_a_bare_list_of_models_will_do(serve: Serve, respond: Respond) -> None:
    assert probed(entry(serve(respond(200, b'[{"id": "m-1"}]')))).models == 1


def test_limits_come_from_the_server_or_else_from_the_config(
    serve: Serve, respond: Respond
) -> None:
    told = {
        "x_ratelimit_limit_requests": "500",
        "x_ratelimit_remaining_requests": "499",
        "x_ratelimit_limit_tokens": "200000",
        "x_ratelimit_remaining_tokens": "199000",
    }
    base_url = serve({CANARY: [respond(200, MODELS, **told)], "other": [respond(200, MODELS)]})

    by_server = probed(entry(base_url, rpm=7))
    by_config = probed(entry(base_url, "other", rpm=7))
    by_nobody = probed(entry(base_url, "other"))
    reports = (by_server, by_config, by_nobody)
    assert [(r.requests, r.tokens, r.limits_from) for r in reports] == [
        (500, 200_000, "server"),
        (7, None, "config"),
        (None, None, None),
    ]


def test_one_token_shows_what_the_list_of_models_hides(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    spent = error("You exceeded your current quota", "insufficient_quota")
    report = probed(entry(serve(respond(200, MODELS), respond(429, spent))), ask="m-1")

    assert (report.state, report.models) == ("spent", 2)
    asked = json.loads(requests[1].partition(b"\r\n\r\n")[2])
    assert (asked["model"], asked["max_tokens"]) == ("m-1", 1)


def test_a_key_whose_server_lists_nothing_may_still_answer(serve: Serve, respond: Respond) -> None:
    report = probed(entry(serve(respond(404, b""), respond())), ask="m-1")

    assert (report.state, report.models) == ("works", None)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b'{"choices":[{"message":{"content":""},"finish_reason":"length"}]}'),
        (400, error("Could not finish the message because max_tokens or ... was reached.")),
    ],
)
def test_a_reply_for_which_a_token_is_too_little_is_one(
    serve: Serve, respond: Respond, answer: tuple[int, bytes]
) -> None:
    assert probed(entry(serve(respond(200, MODELS), respond(*answer))), ask="m-1").works


def test_a_model_that_reasons_is_asked_in_its_own_words(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    wrong = error("'max_tokens' is not supported. Use 'max_completion_tokens' instead.")
    base_url = serve(respond(200, MODELS), respond(400, wrong), respond())

    assert probed(entry(base_url), ask="o-1").works
    assert b'"max_completion_tokens":1' in requests[2]


def test_a_key_that_does_not_serve_the_model_is_not_asked(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    report = probed(entry(serve(respond(200, MODELS)), models=("m-1",)), ask="m-9")

    assert (report.works, len(requests)) == (True, 1)
    assert report.message == "was not asked: its entry does not name m-9"


def test_many_keys_are_asked_at_once_but_not_all() -> None:
    scenario = Scenario.model_validate({"latency": "100ms"})
    with MockServer(scenario) as server:
        keys = [entry(server.base_url, f"sk-{n}", name=f"key {n}") for n in range(2 * AT_A_TIME)]
        reports = asyncio.run(probe_keys(keys, ask="m", timeout_s=60))

    assert [report.name for report in reports] == [key.name for key in keys]
    assert all(report.works for report in reports)
    assert 1 < server.stats.peak_in_flight <= AT_A_TIME
