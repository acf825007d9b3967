from __future__ import annotations

import pytest
from openai.types import Batch

from tests.mock.batch.conftest import Desk, Open, asks

TEN = [asks(str(n)) for n in range(10)]


def _counts(batch: Batch) -> tuple[int, int, int]:
    counts = batch.request_counts
    assert counts is not None
    return counts.total, counts.completed, counts.failed


def _error(batch: Batch) -> tuple[str | None, str | None]:
    assert batch.errors is not None
    assert batch.errors.data is not None
    (error,) = batch.errors.data
    return error.code, error.message


@pytest.mark.parametrize(
    ("status", "code"), [("expired", "batch_expired"), ("cancelled", "batch_cancelled")]
)
def test_a_batch_that_ends_early_parts_its_lines(desk: Open, status: str, code: str) -> None:
    opened = desk(batch={"ends": [{"status": status, "answered": "30%"}]})
    batch = opened.run(TEN)
    assert (batch.status, _counts(batch)) == (status, (10, 3, 7))
    answered = opened.lines(batch.output_file_id)
    others = opened.lines(batch.error_file_id)
    assert len({line["custom_id"] for line in answered + others}) == 10
    assert {line["response"]["status_code"] for line in answered} == {200}
    for line in others:
        assert (line["response"], line["error"]["code"]) == (None, code)
        assert line["error"]["message"].startswith(("This request could not", "The batch was"))
    assert (batch.expired_at is None) == (status != "expired")
    assert (batch.cancelled_at is None) == (batch.cancelling_at is None) == (status == "expired")


def test_a_batch_that_ends_before_its_first_answer_has_no_output(desk: Open) -> None:
    opened = desk(batch={"ends": [{"status": "expired", "answered": 0}]})
    batch = opened.run(TEN)
    assert (batch.output_file_id, _counts(batch)) == (None, (10, 0, 10))
    assert len(opened.lines(batch.error_file_id)) == 10


def test_a_batch_that_takes_longer_than_its_window_expires(desk: Open) -> None:
    opened = desk(batch={"latency": "1s", "window": "400ms"})
    batch = opened.run(TEN)
    assert (batch.status, _counts(batch)) == ("expired", (10, 4, 6))


def test_ends_have_conditions(desk: Open) -> None:
    ends = [
        {"status": "expired", "after": 1, "first": 1},
        {"status": "failed", "key": "sk-two"},
    ]
    opened = desk(batch={"ends": ends})
    one, two = opened, opened.of("sk-two")
    statuses = [who.run(TEN).status for who in (one, one, one, two, two)]
    assert statuses == ["completed", "expired", "completed", "failed", "failed"]


def test_shares_of_ends_are_drawn_by_the_seed(desk: Open) -> None:
    def ends(seed: int) -> list[str]:
        opened = desk(seed=seed, batch={"ends": {"expired": "30%", "failed": "30%"}, "latency": 0})
        begun = [opened.begin([asks(str(n))]) for n in range(30)]
        return [opened.wait(batch).status for batch in begun]

    first = ends(1)
    assert all(first.count(status) > 2 for status in ("expired", "failed", "completed"))
    assert ends(1) == first
    assert ends(2) != first


def test_the_same_file_draws_anew_another_time(desk: Open) -> None:
    opened = desk(batch={"ends": {"expired": "50%"}, "latency": 0})
    assert {opened.run([asks("a")]).status for _ in range(20)} == {"expired", "completed"}


def test_a_failed_batch_says_why(desk: Open) -> None:
    ends = [
        {"status": "failed", "first": 1},
        {"status": "failed", "first": 1, "code": "token_limit_exceeded"},
    ]
    opened = desk(batch={"ends": ends})
    assert _error(opened.run(TEN))[0] == "server_error"
    code, message = _error(opened.run(TEN))
    assert code == "token_limit_exceeded"
    assert message == (
        "Enqueued token limit reached for gpt-4o-mini in organization org-simulated. Limit: 90,000 "
        "enqueued tokens. Please try again once some in_progress batches have been completed."
    )


def test_the_queue_of_an_organization_is_limited_for_each_model(desk: Open) -> None:
    keys = {name: {"organization": f"org-{name[3]}"} for name in ("sk-a1", "sk-a2", "sk-b")}
    opened = desk(keys=keys, batch={"latency": "1s", "enqueued_tokens": 1500})
    first, second = opened.of("sk-a1"), opened.of("sk-a2")
    lines = [asks("x" * 400, str(n)) for n in range(10)]  # a token is 4 characters
    taken = first.wait(first.begin(lines), ["in_progress"])
    refused = second.wait(second.begin(lines))
    code, message = _error(refused)
    assert code == "token_limit_exceeded"
    assert message == (
        "Enqueued token limit reached for gpt-4o-mini in organization org-a. Limit: 1,500 enqueued "
        "tokens. Please try again once some in_progress batches have been completed."
    )
    assert _unrefused(opened.of("sk-b"), lines)
    other = [asks("x" * 400, str(n), model="gpt-4o") for n in range(10)]
    assert _unrefused(second, other)
    assert first.wait(taken).status == "completed"
    assert _unrefused(second, lines)


def _unrefused(opened: Desk, lines: list[dict[str, object]]) -> bool:
    states = ["in_progress", "failed"]
    return opened.wait(opened.begin(lines), states).status == "in_progress"


def test_one_batch_can_be_too_large_for_the_queue(desk: Open) -> None:
    opened = desk(batch={"enqueued_tokens": 99})
    assert _error(opened.run([asks("x" * 400)]))[0] == "token_limit_exceeded"


def test_a_key_without_money_has_its_batches_fail(desk: Open) -> None:
    opened = desk(keys={"sk-one": {"failure": "billing_hard_limit"}})
    code, message = _error(opened.run(TEN))
    assert code == "billing_hard_limit_reached"
    assert message


def test_a_reply_that_raises_fails_the_batch_and_is_heard_of(
    desk: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(body: dict[str, object]) -> str:
        raise RuntimeError(body["model"])

    opened = desk(reply)
    batch = opened.run(TEN)
    assert (batch.status, _error(batch)[0]) == ("failed", "server_error")
    assert "RuntimeError: gpt-4o-mini" in caplog.text


def test_stopping_breaks_off_batches(desk: Open, capfd: pytest.CaptureFixture[str]) -> None:
    opened = desk(batch={"latency": "600s"})
    opened.begin(TEN)
    opened.server.stop()
    assert capfd.readouterr().err == ""
