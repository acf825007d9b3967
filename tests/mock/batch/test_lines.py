from __future__ import annotations

from typing import Any

import pytest

from tests.mock.batch.conftest import Desk, Open, asks


def _by_id(opened: Desk, file_id: str | None) -> dict[str, dict[str, Any]]:
    return {line["custom_id"]: line for line in opened.lines(file_id)}


@pytest.mark.parametrize("part", ["failures", "lines"])
def test_scripted_failures_of_lines_go_to_the_error_file(desk: Open, part: str) -> None:
    statuses = {
        "rate_limit_rpm": 429,
        "insufficient_quota": 429,
        "context_length_exceeded": 400,
        "content_policy_violation": 400,
        "server_500": 500,
        "overloaded_503": 503,
    }
    rules = [{"name": name, "match": f"^{name}$"} for name in statuses]
    opened = desk(failures=rules) if part == "failures" else desk(batch={"lines": rules})
    batch = opened.run([asks(name) for name in [*statuses, "fine"]])
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 7, "completed": 1, "failed": 6}
    assert list(_by_id(opened, batch.output_file_id)) == ["fine"]
    failed = _by_id(opened, batch.error_file_id)
    assert {name: line["response"]["status_code"] for name, line in failed.items()} == statuses
    for line in failed.values():
        assert line["error"] is None
        assert line["response"]["body"]["error"]["message"]
    quota = failed["insufficient_quota"]["response"]["body"]["error"]
    assert quota["code"] == "insufficient_quota"


def test_failures_of_lines_are_no_failures_of_requests(desk: Open) -> None:
    opened = desk(batch={"lines": {"server_500": 1}})
    said = opened.client.chat.completions.create(**asks("a")["body"])
    assert said.choices[0].message.content == "a"
    batch = opened.run([asks("a")])
    assert (batch.output_file_id, batch.error_file_id is None) == (None, False)


def test_attempts_count_over_batches(desk: Open) -> None:
    opened = desk(failures=[{"name": "server_500", "attempts": 1}])
    first, second = (opened.run([asks("a"), asks("b")]) for _ in range(2))
    counts = [batch.request_counts and batch.request_counts.failed for batch in (first, second)]
    assert counts == [2, 0]


def test_a_line_that_a_model_refuses_is_in_the_error_file(desk: Open) -> None:
    opened = desk()
    batch = opened.run([asks("a", max_tokens="many"), asks("b")])
    (line,) = opened.lines(batch.error_file_id)
    assert (line["custom_id"], line["response"]["status_code"]) == ("a", 400)
    assert line["response"]["body"]["error"]["param"] == "max_tokens"


@pytest.mark.parametrize("name", ["reset_before_reply", "hang", "slow_drip", "short_body"])
def test_a_connection_that_would_fail_is_a_timeout_of_the_line(desk: Open, name: str) -> None:
    opened = desk(failures={name: 1})
    batch = opened.run([asks("a")])
    (line,) = opened.lines(batch.error_file_id)
    assert (line["response"], line["error"]["code"]) == (None, "request_timeout")


def test_wrong_answers_of_a_model_are_in_the_output_file(desk: Open) -> None:
    names = ["finish_length", "refusal", "error_in_200", "empty_content", "no_choices"]
    opened = desk(failures=[{"name": name, "match": f"^{name}$"} for name in names])
    batch = opened.run([asks(name) for name in names])
    bodies = {x["custom_id"]: x["response"]["body"] for x in opened.lines(batch.output_file_id)}
    assert bodies["finish_length"]["choices"][0]["finish_reason"] == "length"
    assert bodies["refusal"]["choices"][0]["message"]["content"] is None
    assert bodies["error_in_200"]["error"]["code"] == 502
    assert bodies["empty_content"]["choices"][0]["message"]["content"] == ""
    assert bodies["no_choices"]["choices"] == []


def test_an_answer_that_is_no_json_is_a_text_in_its_line(desk: Open) -> None:
    names = ["html_200", "truncated_json", "invalid_utf8", "bad_gateway_502", "empty_body"]
    opened = desk(failures=[{"name": name, "match": f"^{name}$"} for name in names])
    batch = opened.run([asks(name) for name in names])
    lines = {
        **_by_id(opened, batch.output_file_id),
        **_by_id(opened, batch.error_file_id),
    }
    assert lines.keys() == set(names)
    assert all(isinstance(line["response"]["body"], str) for line in lines.values())
    assert "<html>" in lines["bad_gateway_502"]["response"]["body"]


def test_the_limits_of_a_key_are_not_those_of_its_batches(desk: Open) -> None:
    opened = desk(keys={"sk-one": {"rpm": 1, "tpm": 10}})
    batch = opened.run([asks("x" * 100, str(n)) for n in range(20)])
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 20


def test_a_key_that_fails_at_every_model_fails_in_every_line(desk: Open) -> None:
    opened = desk(keys={"sk-one": {"failure": "model_no_access"}})
    batch = opened.run([asks("a"), asks("b")])
    statuses = [line["response"]["status_code"] for line in opened.lines(batch.error_file_id)]
    assert statuses == [403, 403]
