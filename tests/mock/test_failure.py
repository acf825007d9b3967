from __future__ import annotations

import email.utils
import gzip
import json
import socket
import time
import zlib
from datetime import datetime, timedelta

import pytest
from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import BodyDecodeError, NetworkError, RequestError

from gptflow.mock.failure.catalogue import CATALOGUE, GROUPS
from gptflow.mock.failure.model import JSON
from tests.mock.conftest import Got, Serve, Serving

BROKEN = {
    "reset_before_reply",
    "close_before_reply",
    "reset_mid_body",
    "short_body",
    "cut_chunk",
    "not_http",
    "long_header",
    "corrupt_gzip",
}
SLOW = {"hang", "hang_mid_body", "slow_drip", "blank_lines"}
NOT_JSON = {"empty_body", "truncated_json", "cut_without_length", "invalid_utf8"}
WITHOUT_ERROR = {
    "wrong_path",
    "unprocessable_422",
    "gemini_400",
    "gemini_rate_limit",
    "gemini_rate_limit_details",
    "gemini_rate_limit_silent",
    "gemini_nothing_granted",
    "gemini_invalid_key",
    "gateway_quota_403",
    "siliconflow_balance_403",
    "xai_credits_429",
    "xai_credits_403",
    "mistral_no_model",
    "vllm_flat_400",
}


@pytest.fixture(scope="module")
def failing(serve: Serve) -> Serving:
    """A server that fails each request in the way that the request names."""
    rules = [{"name": name, "match": f"^{name}$", "retry_after": "90s"} for name in CATALOGUE]
    return serve(failures=rules)


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - BROKEN - SLOW))
def test_each_failure_of_http_comes_with_its_status_and_kind(failing: Serving, name: str) -> None:
    got = failing.ask(name)
    assert got.status == CATALOGUE[name].status
    assert got.headers.get("content-type", "").encode() == CATALOGUE[name].content_type
    entry = failing.noted()[-1]
    assert entry.failure == name
    assert entry.answered == (name != "cut_without_length")


@pytest.mark.parametrize("name", [n for n, f in CATALOGUE.items() if f.status >= 400])
def test_each_refusal_explains_itself(failing: Serving, name: str) -> None:
    got = failing.ask(name)
    if CATALOGUE[name].content_type == JSON and name not in WITHOUT_ERROR:
        assert got.json["error"]["message"]
        assert "{" not in got.json["error"]["message"]
        assert "x-request-id" in got.headers
    elif CATALOGUE[name].content_type == JSON:
        assert got.json
    else:
        assert got.body
        assert "x-request-id" not in got.headers


@pytest.mark.parametrize(
    ("name", "status", "kind", "code"),
    [
        ("rate_limit_rpm", 429, "requests", "rate_limit_exceeded"),
        ("rate_limit_tpm", 429, "tokens", "rate_limit_exceeded"),
        ("rate_limit_azure", 429, None, "429"),
        ("rate_limit_credit_type", 429, "credit_limit", None),
        ("request_too_large", 429, "tokens", "rate_limit_exceeded"),
        ("insufficient_quota", 429, "insufficient_quota", "insufficient_quota"),
        ("billing_not_active", 429, "billing_not_active", "billing_not_active"),
        ("billing_hard_limit", 400, "invalid_request_error", "billing_hard_limit_reached"),
        ("invalid_api_key", 401, "invalid_request_error", "invalid_api_key"),
        ("account_deactivated_text", 401, "requests", None),
        ("model_not_found", 404, "invalid_request_error", "model_not_found"),
        ("model_no_access", 403, "invalid_request_error", "model_not_found"),
        ("context_length_exceeded", 400, "invalid_request_error", "context_length_exceeded"),
        ("vllm_context_length", 400, "BadRequestError", 400),
        ("loading_503", 503, "unavailable_error", 503),
    ],
)
def test_the_well_known_errors_have_their_type_and_code(
    failing: Serving, name: str, status: int, kind: str, code: str
) -> None:
    got = failing.ask(name)
    error = got.json["error"]
    assert (got.status, error["type"], error["code"]) == (status, kind, code)


def test_a_rate_limit_of_openai_tells_the_wait_in_three_places(failing: Serving) -> None:
    got = failing.ask("rate_limit_rpm")
    assert "Please try again in 1m30s." in got.json["error"]["message"]
    assert got.headers["retry-after"] == "90"
    assert got.headers["retry-after-ms"] == "90000"
    assert got.headers["x-ratelimit-remaining-requests"] == "0"
    assert got.headers["x-ratelimit-reset-requests"] == "1m30s"


def test_other_rate_limits_tell_the_wait_in_their_own_ways(failing: Serving) -> None:
    dated = failing.ask("rate_limit_date").headers["retry-after"]
    assert email.utils.parsedate_to_datetime(dated).timestamp() == pytest.approx(
        time.time() + 90, abs=3
    )
    iso = failing.ask("rate_limit_anthropic").headers["anthropic-ratelimit-requests-reset"]
    assert datetime.fromisoformat(iso).timestamp() == pytest.approx(time.time() + 90, abs=3)
    assert failing.ask("rate_limit_azure").headers["retry-after-ms"] == "90000"
    for silent in ("rate_limit_silent", "rate_limit_text_only"):
        assert "retry-after" not in failing.ask(silent).headers


def test_limits_per_day_wait_for_hours_if_nothing_else_is_said(serve: Serve) -> None:
    got = serve(failures={"rate_limit_tpd": "100%"}).ask()
    assert "try again in 6h0m0s" in got.json["error"]["message"]


def _choice(got: Got) -> dict[str, object]:
    choice: dict[str, object] = got.json["choices"][0]
    return choice


@pytest.mark.parametrize(
    ("name", "finish_reason", "content"),
    [
        ("refusal", "stop", None),
        ("finish_content_filter", "content_filter", None),
        ("finish_length", "length", "finish_length"),
        ("finish_error", "error", "finish_error"),
        ("finish_null", None, "finish_null"),
        ("finish_unknown", "eos_token_found", "finish_unknown"),
        ("empty_content", "stop", ""),
        ("reasoning_only", "stop", ""),
        ("error_and_choices", "stop", None),
        ("nul_in_content", "stop", "a\x00b"),
        ("lone_surrogate", "stop", "a\ud83db"),
    ],
)
def test_a_wrong_answer_is_wrong_in_the_way_it_says(
    failing: Serving, name: str, finish_reason: str, content: str
) -> None:
    got = failing.ask(name)
    assert _choice(got)["finish_reason"] == finish_reason
    assert got.text == content


def test_answers_that_are_not_a_completion_are_what_they_say(failing: Serving) -> None:
    assert "choices" not in failing.ask("error_in_200").json
    assert failing.ask("error_and_choices").json["error"]["code"] == 429
    assert failing.ask("json_null").json is None
    assert failing.ask("json_list").json == []
    assert failing.ask("json_string").json == "ok"
    assert failing.ask("no_choices").json["choices"] == []
    assert _choice(failing.ask("null_message"))["message"] is None
    assert "usage" not in failing.ask("usage_missing").json
    assert failing.ask("events_200").body.startswith(b"data: {")
    assert failing.ask("html_200").body.startswith(b"<!DOCTYPE html>")
    assert failing.ask("byte_order_mark").body.startswith(b"\xef\xbb\xbf{")
    assert failing.ask("duplicate_key").body.count(b'"object"') == 2
    assert b":NaN" in failing.ask("nan_value").body


@pytest.mark.parametrize("name", sorted(NOT_JSON | {"truncated_text"}))
def test_some_answers_are_not_json(failing: Serving, name: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|decode"):
        json.loads(failing.ask(name).body)


def test_failures_of_answers_work_for_the_older_endpoint_too(serve: Serve) -> None:
    served = serve(failures={"empty_content": "100%"})
    got = served.send("POST", "/completions", {"model": "m", "prompt": "x"})
    assert got.json["choices"][0]["text"] == ""


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_each_broken_answer_is_an_exception_for_the_client(failing: Serving, name: str) -> None:
    with pytest.raises((RequestError, NetworkError, BodyDecodeError)):
        failing.ask(name)


def test_a_reset_is_a_reset_and_a_close_is_none(failing: Serving) -> None:
    assert _read_raw(failing, "close_before_reply") == b""
    with pytest.raises(ConnectionResetError):
        _read_raw(failing, "reset_before_reply")
    assert b"\r\n\r\n{" in _read_raw(failing, "short_body")


def _read_raw(served: Serving, user: str) -> bytes:
    """What comes on a plain socket until the server ends it."""
    port = int(served.server.base_url.split(":")[2].removesuffix("/v1"))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": user}]})
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-one\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", ["hang", "hang_mid_body"])
def test_a_hanging_answer_lasts_until_the_client_leaves(failing: Serving, name: str) -> None:
    impatient = SyncClientBuilder().no_proxy().read_timeout(timedelta(seconds=0.2)).build()
    with impatient as client, pytest.raises(RequestError, match="timeout"):
        failing._replace(client=client).ask(name)
    assert failing.ask("Hello").status == 200


def test_a_crawling_answer_outlives_a_read_timeout(serve: Serve) -> None:
    crawling = serve(failures={"blank_lines": "100%"})
    builder = SyncClientBuilder().no_proxy().read_timeout(timedelta(seconds=0.6))
    with builder.build() as client:
        got = crawling._replace(client=client).ask("still there")
    assert got.text == "still there"
    assert got.body.startswith(b"\n" * 20 + b"{")
    assert crawling.noted()[0].latency_s >= 2


def test_a_dripping_answer_comes_byte_by_byte(failing: Serving) -> None:
    builder = SyncClientBuilder().no_proxy().timeout(timedelta(seconds=0.7))
    with builder.build() as client, pytest.raises(RequestError):
        failing._replace(client=client).ask("slow_drip")


def test_corrupt_gzip_says_it_is_gzip(failing: Serving) -> None:
    raw = SyncClientBuilder().no_proxy().gzip(enable=False).build()
    with raw as client:
        got = failing._replace(client=client).ask("corrupt_gzip")
    assert got.headers["content-encoding"] == "gzip"
    with pytest.raises(zlib.error):
        gzip.decompress(got.body)


def test_no_two_failures_share_a_name() -> None:
    assert len(CATALOGUE) == sum(len(group) for group in GROUPS.values())
