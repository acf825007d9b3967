from __future__ import annotations

import json

import pytest

from gptflow.engine.batch_line import read_line, request_line
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import Call, FailureKind, Reply

KEY = bytes(range(16))
BODY = b'{"choices":[{"message":{"content":"good"},"finish_reason":"stop"}],"model":"m"}'


def line(**members: object) -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": KEY.hex(), **members}).encode()


def answered(status: int, body: object) -> bytes:
    return line(response={"status_code": status, "request_id": "r", "body": body}, error=None)


def verdict_on(told: bytes) -> Verdict:
    answer = read_line(told, 0.0)
    assert answer is not None
    assert isinstance(answer.result, Verdict)
    return answer.result


def test_a_call_is_named_by_its_key() -> None:
    call = Call(KEY, "label", "m", [{"role": "user", "content": "Hi\n"}], {"temperature": 0})
    written = request_line(call)
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1
    assert json.loads(written) == {
        "custom_id": KEY.hex(),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": call.messages, "temperature": 0},
    }


def test_a_reply_has_the_bytes_of_its_body_as_they_stand_in_the_file() -> None:
    told = b'{"custom_id":"%s","response":{"status_code":200,"body":%s},"error":null}\n'
    answer = read_line(told % (KEY.hex().encode(), BODY), 0.0)
    assert answer is not None
    assert isinstance(answer.result, Reply)
    assert (answer.call_key, answer.result.text, answer.result.body) == (KEY, "good", BODY)


def test_an_error_of_a_line_is_judged_as_that_of_a_call() -> None:
    error = {"error": {"message": "Too long.", "code": "context_length_exceeded"}}
    verdict = verdict_on(answered(400, error))
    assert (verdict.kind, verdict.code) == (VerdictKind.REJECTED, "context_length_exceeded")
    assert verdict_on(answered(500, {"error": {"message": "Oops."}})).kind is VerdictKind.RETRY


def test_a_rate_limit_inside_a_batch_is_asked_again_and_charged() -> None:
    error = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
    verdict = verdict_on(answered(429, error))
    assert (verdict.kind, verdict.failure) == (VerdictKind.RETRY, FailureKind.SERVER)


def test_a_line_without_a_response_is_asked_again() -> None:
    expired = {"code": "batch_expired", "message": "This request could not be executed."}
    verdict = verdict_on(line(response=None, error=expired))
    assert (verdict.kind, verdict.code) == (VerdictKind.RETRY, "batch_expired")
    assert verdict_on(line(response=None, error=None)).kind is VerdictKind.RETRY


@pytest.mark.parametrize(
    "told", [b"", b"\n", b"{", b"[]", b'{"custom_id":"row-1"}', b'{"custom_id":7}', b"\xff"]
)
def test_a_line_that_is_none_of_ours_is_passed_over(told: bytes) -> None:
    assert read_line(told, 0.0) is None


@pytest.mark.parametrize(
    "told",
    [
        b'\xef\xbb\xbf{"custom_id":"%s","response":{"status_code":200,"body":%s}}',
        b'{"custom_id":"%s","id":"\\ud800","response":{"status_code":200,"body":%s}}',
        b'{"custom_id":"%s","took":NaN,"response":{"status_code":"200","body":%s}}',
        b'{"custom_id":"%s","note":"\xff","response":{"status_code":200,"body":%s}}',
    ],
)
def test_a_line_that_is_not_quite_json_has_its_reply_all_the_same(told: bytes) -> None:
    answer = read_line(told % (KEY.hex().encode(), BODY), 0.0)
    assert answer is not None
    assert isinstance(answer.result, Reply)
    assert answer.result.text == "good"


@pytest.mark.parametrize("status", [0, None])
def test_an_error_counts_where_a_response_has_no_status(status: int | None) -> None:
    response: dict[str, object] = {"status_code": status, "body": {}}
    verdict = verdict_on(line(response=response, error={"code": "oops", "message": "Oops."}))
    assert (verdict.kind, verdict.message) == (VerdictKind.RETRY, "Oops.")
