"""Every way in which servers say no, byte by byte, and what it means."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gptflow.engine import wire
from gptflow.engine.attempt import FaultKind, Flaw, Response, TransportFault
from gptflow.engine.verdicts import (
    Verdict,
    VerdictKind,
    judge_fault,
    judge_flaw,
    judge_response,
)
from gptflow.records import FailureKind

REST, EXHAUSTED, RETIRED = VerdictKind.REST, VerdictKind.EXHAUSTED, VerdictKind.RETIRED
NO_MODEL, REJECTED, REFUSED = VerdictKind.NO_MODEL, VerdictKind.REJECTED, VerdictKind.REFUSED
RETRY, STOP = VerdictKind.RETRY, VerdictKind.STOP

RPM = (
    "Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): "
    "Limit 3, Used 3, Requested 1. Please try again in 20s."
)
TOO_LARGE = (
    "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, "
    "Requested 30601. The input or output tokens must be reduced in order to run successfully."
)
QUOTA = "You exceeded your current quota, please check your plan and billing details."
CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
BAD_GATEWAY = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>"


def said(
    message: str, kind: str | None = None, code: str | int | None = None, **more: Any
) -> bytes:
    error = {"message": message, "type": kind, "param": None, "code": code, **more}
    return json.dumps({"error": error}).encode()


def judged(status: int, body: bytes, **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge_response(Response(status, named, body), now_wall=0.0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, said(RPM, "requests", "rate_limit_exceeded"), REST),
        (429, said(RPM.replace("RPM", "TPM"), "tokens", "rate_limit_exceeded"), REST),
        (429, said(TOO_LARGE, "tokens", "rate_limit_exceeded"), REJECTED),
        (429, said(QUOTA, "insufficient_quota", "insufficient_quota"), EXHAUSTED),
        (429, said("Not active", "billing_not_active", "billing_not_active"), EXHAUSTED),
        (429, said("Slow down", "credit_limit"), REST),
        (429, said("Too many requests", None, "429"), REST),
        (429, said(QUOTA, None, None), EXHAUSTED),
        (429, said(QUOTA + " Please retry in 38.2s.", None, 429), REST),
        (429, b"[" + said("Resource has been exhausted", None, 429) + b"]", REST),
        (429, said("Recharge", code="1113"), EXHAUSTED),
        (429, said("Recharge", "rate_limit_error", "1113"), EXHAUSTED),
        (429, said("Your account is suspended", "exceeded_current_quota_error"), EXHAUSTED),
        (429, b'{"error":"Your team x has either used all available credits or"}', EXHAUSTED),
        (403, b'{"error":"Your team x has either used all available credits or"}', EXHAUSTED),
        (403, b'{"error":"You have run out of credits or need a subscription."}', EXHAUSTED),
        (403, b'{"code":30001,"message":"Sorry, your account balance is insufficient"}', EXHAUSTED),
        (403, b'{"statusCode":403,"message":"Out of call volume quota. Quota will"}', REST),
        (403, b'{"message":"Forbidden"}', RETRY),
        (403, b'{"detail":"Invalid API key"}', RETIRED),
        (403, b"<html><title>Your request was flagged</title></html>", RETRY),
        (400, said("In arrears", "Arrearage", "Arrearage"), EXHAUSTED),
        (429, b"", REST),
        (429, b"<html><title>1015</title></html>", REST),
        (400, said("Hit", "invalid_request_error", "billing_hard_limit_reached"), EXHAUSTED),
        (400, said("You have reached your specified API usage limits. You will ..."), EXHAUSTED),
        (400, said("Your credit balance is too low to access the Anthropic API."), EXHAUSTED),
        (402, said("Insufficient Balance", "unknown_error", "invalid_request_error"), EXHAUSTED),
        (402, said("Wait", metadata={"limit_source": "openrouter_in_flight_budget"}), REST),
        (401, said("Incorrect API key provided: sk-ab***yz", None, "invalid_api_key"), RETIRED),
        (401, said("Deactivated", "invalid_request_error", "account_deactivated"), RETIRED),
        (401, said("This account is deactivated", "requests"), RETIRED),
        (401, said("OpenAI-Organization", None, "mismatched_organization"), RETIRED),
        (401, said("Your IP is not authorized to use this key."), STOP),
        (401, b"", RETIRED),
        (403, said("Not yours", "x", "unsupported_country_region_territory"), STOP),
        (403, said("Country, region, or territory not supported"), STOP),
        (403, said("Project `p` does not have access to model `gpt-9`", None, "x"), NO_MODEL),
        (403, said("Forbidden", "permission_error", 403), RETIRED),
        (403, said("No", None, 403, metadata={"reasons": ["hate"]}), REFUSED),
        (403, said("Your input was flagged", None, 403), REFUSED),
        (403, CHALLENGE, RETRY),
        (403, b"Forbidden", RETRY),
        (404, said("The model `x` does not exist", "y", "model_not_found"), NO_MODEL),
        (404, said("The model `x` does not exist.", "NotFoundError", 404), NO_MODEL),
        (404, said('model "x" not found, try pulling it first', "not_found_error"), NO_MODEL),
        (404, said("Not here", None, "DeploymentNotFound"), NO_MODEL),
        (404, said("No endpoints found for a/b.", None, 404), NO_MODEL),
        (400, said("a/b is not a valid model ID", None, 400), NO_MODEL),
        (400, said("Model Not Exist", "invalid_request_error", "invalid_request_error"), NO_MODEL),
        (404, said("model: claude-9", "not_found_error"), NO_MODEL),
        (400, b'{"object":"error","message":"Invalid model: x","type":"invalid_model"}', NO_MODEL),
        (404, b'{"detail":"Not Found"}', RETIRED),
        (404, b"<html><title>404 Not Found</title></html>", RETIRED),
        (404, said("Invalid URL (POST /chat/completions)", "invalid_request_error"), RETIRED),
        (404, said("File Not Found", "not_found_error", 404), RETIRED),
        (404, said("No such thing for you", "invalid_request_error"), REJECTED),
        (405, b"", RETIRED),
        (302, b"", RETIRED),
        (407, b"", STOP),
        (400, said("Too long", "invalid_request_error", "context_length_exceeded"), REJECTED),
        (400, said("maximum context length is 4096 tokens", "BadRequestError", 400), REJECTED),
        (400, said("Too big", "exceed_context_size_error", 400, n_ctx=4096), REJECTED),
        (400, said("Too long", None, "string_above_max_length"), REJECTED),
        (400, said("Invalid schema for response_format 'x'"), REJECTED),
        (400, said("No", None, "content_policy_violation"), REFUSED),
        (400, said("No", None, "invalid_prompt"), REFUSED),
        (400, said("No", None, "cyber_policy"), REFUSED),
        (400, said("No", None, "x", innererror={"code": "ResponsibleAIPolicyViolation"}), REFUSED),
        (400, said("The response was filtered by our content management policy."), REFUSED),
        (400, said("API key not valid. Please pass a valid API key."), RETIRED),
        (400, said("User location is not supported for the API use."), STOP),
        (400, b'{"object":"error","message":"n must be 1","type":"x","code":400}', REJECTED),
        (413, said("Request too large", "tokens", "rate_limit_exceeded"), REJECTED),
        (413, b"<html><title>413 Payload Too Large</title></html>", REJECTED),
        (422, b'{"detail":[{"loc":["body","n"],"msg":"wrong","type":"int"}]}', REJECTED),
        (408, b"", RETRY),
        (409, said("Conflict"), RETRY),
        (498, said("Full", None, "capacity_exceeded"), RETRY),
        (499, b"", RETRY),
        (500, said("Oops", "server_error"), RETRY),
        (500, b'{"error":"plain"}', RETRY),
        (501, said("Not built in", "not_supported_error", 501), REJECTED),
        (502, BAD_GATEWAY, RETRY),
        (503, said("Loading model", "unavailable_error", 503), RETRY),
        (503, said("No channel", "new_api_error", "model_not_found"), RETRY),
        (504, b"", RETRY),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', RETRY),
    ],
)
def test_a_status_and_its_body_decide(status: int, body: bytes, kind: VerdictKind) -> None:
    assert judged(status, body).kind is kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (said("Provider returned error", None, 429), REST),
        (said("Insufficient credits", None, 402), EXHAUSTED),
        (said("Provider down", None, 502), RETRY),
        (said("Over", "insufficient_quota", "insufficient_quota"), EXHAUSTED),
        (said("Something"), RETRY),
        (b"[" + said("Slow", None, 429) + b"]", REST),
        (b'{"error":"plain"}', RETRY),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', RETRY),
        (
            (
                b'{"error":{"message":"x","code":429},"choices":[{"message":{"content":null},'
                b'"finish_reason":"stop"}],"usage":{"prompt_tokens":0}}'
            ),
            REST,
        ),
    ],
)
def test_an_error_inside_a_200_is_judged_by_its_own_code(body: bytes, kind: VerdictKind) -> None:
    flaw = wire.decode(body)

    assert isinstance(flaw, Flaw)
    assert judge_flaw(flaw, Response(200, {}, body), now_wall=0.0).kind is kind


@pytest.mark.parametrize(
    ("fault", "kind", "failure"),
    [
        (FaultKind.CONNECT, RETRY, FailureKind.TRANSPORT),
        (FaultKind.BROKEN, RETRY, FailureKind.TRANSPORT),
        (FaultKind.TIMEOUT, RETRY, FailureKind.TIMEOUT),
        (FaultKind.OVERSIZE, REJECTED, FailureKind.REJECTED),
        (FaultKind.CERTIFICATE, RETIRED, FailureKind.REJECTED),
        (FaultKind.PROXY, STOP, FailureKind.REJECTED),
    ],
)
def test_a_fault_of_the_transport_decides_before_all_else(
    fault: FaultKind, kind: VerdictKind, failure: FailureKind
) -> None:
    verdict = judge_fault(TransportFault(fault, "x"))

    assert (verdict.kind, verdict.failure) == (kind, failure)


def test_a_prompt_quoted_in_a_message_takes_no_key_out_of_service() -> None:
    quoted = "Invalid value for 'messages': 'insufficient_quota. The model `x` does not exist.'"

    assert judged(400, said(quoted)).kind is REJECTED


def test_a_prompt_quoted_elsewhere_in_the_body_decides_nothing() -> None:
    body = said("Bad", echo="429 rate_limit_exceeded You exceeded your current quota")

    assert judged(400, body).kind is REJECTED


def test_a_402_that_names_a_time_passes() -> None:
    assert judged(402, said("Wait"), retry_after="4").kind is REST


@pytest.mark.parametrize(
    ("status", "said_so", "kind"),
    [
        (400, "true", RETRY),
        (422, "true", RETRY),
        (400, "false", REJECTED),
        (503, "false", RETRY),
        (429, "false", REST),
        (401, "true", RETIRED),
    ],
)
def test_a_server_may_ask_for_a_retry_but_not_forbid_one(
    status: int, said_so: str, kind: VerdictKind
) -> None:
    assert judged(status, said("Hm"), x_should_retry=said_so).kind is kind


def test_a_call_that_was_retried_because_the_server_asked_so_is_still_rejected() -> None:
    assert judged(400, said("Hm"), x_should_retry="true").failure is FailureKind.REJECTED


@pytest.mark.parametrize("status", [503, 529, 500])
def test_a_server_in_trouble_may_name_the_wait(status: int) -> None:
    verdict = judged(status, said("Busy"), retry_after="9")

    assert (verdict.kind, verdict.wait_s) == (RETRY, 9.0)


def test_a_page_in_place_of_a_reply_hints_at_the_base_url() -> None:
    body = b"<!DOCTYPE html><html><title>Welcome</title></html>"
    flaw = wire.decode(body)

    assert isinstance(flaw, Flaw)
    assert "base_url" in (judge_flaw(flaw, Response(200, {}, body), now_wall=0.0).hint or "")


def test_a_rate_limit_names_the_wait() -> None:
    assert judged(429, said(RPM), retry_after="7").wait_s == 20.0


def test_a_wait_at_the_end_of_a_long_message_is_found() -> None:
    verdict = judged(429, said("Quota exceeded. " + "* metric " * 100 + "Please retry in 11.6s."))

    assert verdict.wait_s == 11.6
    assert len(verdict.message) == 500


@pytest.mark.parametrize("details", [None, 3, [], [None], [{"@type": 3}], {"retryDelay": "3s"}])
def test_odd_details_beside_a_message_decide_nothing(details: Any) -> None:
    assert judged(429, said("Slow", details=details)).wait_s is None


def test_an_html_page_is_told_by_its_title_alone() -> None:
    assert judged(502, BAD_GATEWAY).message == "502 Bad Gateway"


def test_a_wrong_path_hints_at_the_base_url() -> None:
    assert "base_url" in (judged(404, b'{"detail":"Not Found"}').hint or "")


def test_a_number_is_no_code() -> None:
    assert judged(400, said("Bad", "BadRequestError", 400)).code is None


def test_a_long_message_is_cut() -> None:
    assert len(judged(500, said("word " * 10_000)).message) == 500


@pytest.mark.parametrize("loc", [None, 3, "body", {}, [], [None, 3]])
def test_the_place_of_an_error_may_be_odd(loc: Any) -> None:
    body = json.dumps({"detail": [{"loc": loc, "msg": "too long"}]}).encode()

    assert judged(422, body).message.endswith("too long")


def test_lists_within_lists_are_no_error_object() -> None:
    assert judged(429, b"[" * 900 + said(QUOTA) + b"]" * 900).kind is REST


@pytest.mark.parametrize("body", [b"null", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b"{", b""])
def test_a_body_of_no_sense_is_judged_by_its_status(body: bytes) -> None:
    assert judged(500, body).kind is RETRY


def test_a_reply_that_llama_cpp_cannot_parse_is_asked_once_more_only() -> None:
    message = "The model produced output that does not match the expected peg-native format"
    verdict = judged(500, said(message, "server_error", 500))
    assert (verdict.kind, verdict.tries) == (RETRY, 2)


def test_a_message_of_the_server_cannot_steer_a_terminal() -> None:
    assert judged(400, said("\x1b[2Jtoo\r\nlong\x9b")).message == "[2Jtoo long"


WORDS = [
    "error",
    "message",
    "code",
    "type",
    "metadata",
    "innererror",
    "details",
    "status",
    "object",
    "detail",
    "choices",
    "reasons",
    "limit_source",
    "loc",
    "msg",
    "@type",
    "retryDelay",
    "finish_reason",
    "content",
    "usage",
]
VALUES = (None, 0, -1, 429, 1e308, True, "", "429", "insufficient_quota", "error", "model: x")
STATUSES = (200, 204, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 498, 500, 503, 529)
WAITS = ("", "0", "-1", "nan", "inf", "1e999", "9" * 400, "Wed, 21 Oct 2999 07:28:00 GMT", "12")


def odd_value(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON, of words that mean something in an error."""
    kind = chance.random()
    if depth > 3 or kind < 0.4:
        return chance.choice(VALUES)
    if kind < 0.55:
        return [odd_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    names = chance.sample(WORDS, chance.randint(0, 5))
    return {name: odd_value(chance, depth + 1) for name in names}


def test_no_response_is_beyond_judgement() -> None:
    chance = random.Random(7)
    for _ in range(4000):
        body = json.dumps(odd_value(chance)).encode()
        headers = {"retry-after": chance.choice(WAITS), "x-should-retry": chance.choice(WAITS)}
        response = Response(chance.choice(STATUSES), headers, body)
        flaw = wire.decode(body)
        verdict = judge_response(response, 1e9)
        if isinstance(flaw, Flaw):
            verdict = judge_flaw(flaw, response, 1e9)
        assert verdict.wait_s is None or 0 < verdict.wait_s <= 86_400
        assert "\n" not in verdict.message
