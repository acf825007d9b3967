from __future__ import annotations

import asyncio
import itertools

import msgspec

from gptflow.records import Call, Reply, RowResult
from gptflow.runner.forecast import CLOCK_EVERY, Forecast, forecast
from gptflow.runner.prepare import Prepared
from tests.runner.conftest import SPEC, Folder


class Answers:
    """An archive that knows the reply to some calls."""

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies
        """By prompt."""
        self.prompts: dict[bytes, str] = {}

    def find_reply(self, call_key: bytes) -> bytes | None:
        text = self.replies.get(self.prompts.get(call_key, ""))
        if text is None:
            return None
        message = {"message": {"content": text}, "finish_reason": "stop"}
        return msgspec.json.encode({"choices": [message]})

    def save_reply(self, call: Call, reply: Reply) -> asyncio.Future[None]:
        raise AssertionError(f"a forecast saves nothing: {call} {reply}")

    def save_result(self, result: RowResult) -> asyncio.Future[None]:
        raise AssertionError(f"a forecast saves nothing: {result}")


def foreseen(prepared: Prepared, **replies: str) -> Forecast:
    """The forecast where these texts have been labelled, and every apology was made."""
    answers = Answers({})
    rows = list(prepared.rows(0, 1_000))
    step = prepared.plan.steps[0]
    for row in rows:
        text = str(row.columns["text"])
        messages = [{"role": "user", "content": f"Label {text}."}]
        answers.prompts[step.call(messages, row).key] = text
    answers.replies = replies
    return forecast(prepared.plan, rows, len(rows), answers)


def test_without_any_reply_everything_is_to_be_paid(folder: Folder) -> None:
    assert foreseen(folder.prepare()) == Forecast(0, least_calls=3, most_calls=6)


def test_a_stored_reply_is_counted_and_decides_over_the_next_step(folder: Folder) -> None:
    found = foreseen(folder.prepare(), one="good", two="bad")
    assert found == Forecast(2, least_calls=0 + 1 + 1, most_calls=0 + 1 + 2)


def test_a_step_without_when_is_always_to_be_paid(folder: Folder) -> None:
    prepared = folder.prepare(SPEC.replace("    when: label == 'bad'\n", ""))
    assert foreseen(prepared) == Forecast(0, least_calls=6, most_calls=6)


def test_a_row_that_will_fail_asks_nothing_more(folder: Folder) -> None:
    found = foreseen(folder.prepare(), one="neither", two="neither", three="neither")
    assert found == Forecast(3, least_calls=0, most_calls=0)


def test_what_was_seen_in_time_stands_for_the_rest(folder: Folder) -> None:
    folder.write_texts(*map(str, range(4 * CLOCK_EVERY)))
    prepared = folder.prepare()
    ticks = itertools.count(step=1.5)
    rows = prepared.rows(0, 10_000)
    found = forecast(prepared.plan, rows, 4 * CLOCK_EVERY, Answers({}), lambda: next(ticks))
    assert found == Forecast(0, 4 * CLOCK_EVERY, 8 * CLOCK_EVERY, is_exact=False)
    assert len(list(rows)) == 2 * CLOCK_EVERY
