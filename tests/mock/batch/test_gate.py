from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from gptflow.mock.scenario import Scenario
from tests.mock.batch.conftest import CHAT, Desk, Open, asks, jsonl


def _all_refused(opened: Desk, expected: type[openai.APIStatusError]) -> list[dict[str, Any]]:
    """The errors of all that can be asked, each of which is of this kind."""
    client = opened.client
    asked: list[Callable[[], object]] = [
        lambda: opened.upload([asks("a")]),
        client.files.list,
        lambda: client.files.content("file-1"),
        lambda: client.batches.create(
            input_file_id="file-1", endpoint=CHAT, completion_window="24h"
        ),
        client.batches.list,
        lambda: client.batches.retrieve("batch_1"),
        lambda: client.batches.cancel("batch_1"),
    ]
    errors = []
    for ask in asked:
        with pytest.raises(expected) as error:
            ask()
        assert isinstance(error.value.body, dict)
        errors.append(error.value.body)
    return errors


@pytest.mark.parametrize(
    ("status", "expected"), [(401, openai.AuthenticationError), (403, openai.PermissionDeniedError)]
)
def test_a_key_without_access_is_refused(
    desk: Open, status: int, expected: type[openai.APIStatusError]
) -> None:
    opened = desk(keys={"sk-one": {"batch": False}}, batch={"refusal": status})
    errors = _all_refused(opened, expected)
    assert {(error["type"], error["code"]) for error in errors} == {
        ("invalid_request_error", "missing_scope")
    }
    assert "Missing scopes: api.files.write." in errors[0]["message"]
    assert "Missing scopes: api.files.read." in errors[1]["message"]
    assert opened.client.chat.completions.create(**asks("a")["body"]).choices
    assert opened.of("sk-two").upload([asks("a")])


def test_a_server_without_access_refuses_all_keys(desk: Open) -> None:
    opened = desk(batch={"access": False})
    for key in ("sk-one", "sk-two"):
        _all_refused(opened.of(key), openai.AuthenticationError)


def test_keys_that_fail_in_all_they_ask_fail_here(desk: Open) -> None:
    opened = desk(keys={"sk-one": {"failure": "account_deactivated"}}, unknown_keys="refuse")
    codes = {error["code"] for error in _all_refused(opened, openai.AuthenticationError)}
    assert codes == {"account_deactivated"}
    strangers = _all_refused(opened.of("sk-unknown"), openai.AuthenticationError)
    assert {error["code"] for error in strangers} == {"invalid_api_key"}


def test_requests_fail_by_their_method_and_path(desk: Open) -> None:
    requests = [
        {"name": "server_500", "match": "^POST /v1/files", "first": 1},
        {"name": "rate_limit_rpm", "match": "^POST /v1/batches", "first": 1, "retry_after": 2},
        {"name": "overloaded_503", "match": r"^GET /v1/batches/\w+", "after": 1, "first": 1},
        {"name": "bad_gateway_502", "match": "/content$", "first": 1},
    ]
    opened = desk(batch={"requests": requests, "latency": 0})
    with pytest.raises(openai.InternalServerError):
        opened.upload([asks("a")])
    assert opened.client.files.list().data == []
    with pytest.raises(openai.RateLimitError) as error:
        opened.begin([asks("a")])
    assert error.value.response.headers["retry-after"] == "2"
    assert opened.client.batches.list().data == []
    batch = opened.begin([asks("a")])
    opened.client.batches.retrieve(batch.id)
    with pytest.raises(openai.InternalServerError):
        opened.client.batches.retrieve(batch.id)
    batch = opened.wait(batch)
    with pytest.raises(openai.InternalServerError):
        opened.lines(batch.output_file_id)
    assert len(opened.lines(batch.output_file_id)) == 1
    opened.noted()
    assert opened.server.stats.failures == {rule["name"]: 1 for rule in requests}


@pytest.mark.parametrize("name", ["reset_before_reply", "short_body", "not_http"])
def test_where_the_connection_fails_the_deed_is_done(desk: Open, name: str) -> None:
    requests = [
        {"name": name, "match": "^POST /v1/files", "first": 1},
        {"name": name, "match": "^POST /v1/batches", "first": 1},
    ]
    opened = desk(_says_hello, batch={"requests": requests})
    with pytest.raises(openai.APIConnectionError):
        opened.upload([asks("a")])
    (file,) = opened.client.files.list().data
    order = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.APIConnectionError):
        opened.client.post("/batches", body=order, cast_to=object)
    (batch,) = opened.client.batches.list().data
    assert opened.wait(batch).status == "completed"


def _says_hello(body: dict[str, Any]) -> str:
    return f"Hello, {body['model']}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("html_200", b"<!DOCTYPE html>"),
        ("json_null", b"null"),
        ("empty_body", b""),
        ("truncated_json", b'{"object":"file","'),
        ("error_in_200", b'{"error":'),
    ],
)
def test_an_answer_can_be_none_though_the_deed_is_done(desk: Open, name: str, said: bytes) -> None:
    opened = desk(batch={"requests": [{"name": name, "match": "POST", "first": 1}]})
    raw = opened.client.files.with_raw_response
    got = raw.create(file=("a.jsonl", jsonl([asks("a")])), purpose="batch")
    assert got.status_code == 200
    assert got.content.startswith(said)
    assert len(opened.client.files.list().data) == 1


def test_a_download_can_break_off_in_the_middle(desk: Open) -> None:
    requests = [{"name": "reset_mid_body", "match": "/content$", "first": 1}]
    opened = desk(batch={"requests": requests})
    batch = opened.run([asks(str(n)) for n in range(100)])
    with pytest.raises(openai.APIConnectionError):
        opened.lines(batch.output_file_id)
    assert len(opened.lines(batch.output_file_id)) == 100


def test_a_repeated_idempotency_key_is_not_honoured(desk: Open) -> None:
    opened = desk()
    headers = {"Idempotency-Key": "the same"}
    file_id = opened.upload([asks("a")])
    ids = {
        opened.client.batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h", extra_headers=headers
        ).id
        for _ in range(2)
    }
    assert len(ids) == 2


def test_a_wrong_answer_of_a_model_is_no_failure_of_a_request() -> None:
    with pytest.raises(ValidationError, match="'finish_length' is a wrong answer of a model"):
        Scenario.model_validate({"batch": {"requests": {"finish_length": 1}}})
