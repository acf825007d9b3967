from __future__ import annotations

import time

import openai
import pytest
from openai.types import Batch

from gptflow.mock.batch.record import ENDED
from tests.mock.batch.conftest import CHAT, Desk, Open, asks


def test_a_batch_answers_all_its_lines(desk: Open) -> None:
    opened = desk()
    batch = opened.run([asks(f"question {n}") for n in range(30)], metadata={"run": "7"})
    assert (batch.status, batch.endpoint, batch.object) == ("completed", CHAT, "batch")
    assert (batch.completion_window, batch.metadata) == ("24h", {"run": "7"})
    assert (batch.model, batch.errors, batch.error_file_id) == ("gpt-4o-mini", None, None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 30, "completed": 30, "failed": 0}
    assert batch.expires_at == batch.created_at + 86_400
    lines = opened.lines(batch.output_file_id)
    assert {line["custom_id"] for line in lines} == {f"question {n}" for n in range(30)}
    for line in lines:
        assert list(line) == ["id", "custom_id", "response", "error"]
        assert list(line["response"]) == ["status_code", "request_id", "body"]
        assert (line["response"]["status_code"], line["error"]) == (200, None)
        said = line["response"]["body"]["choices"][0]["message"]["content"]
        assert said == line["custom_id"]
    assert len({line["id"] for line in lines}) == 30


def test_the_output_file_is_the_batchs(desk: Open) -> None:
    opened = desk()
    batch = opened.run([asks("a")], output_expires_after={"anchor": "created_at", "seconds": 3600})
    assert batch.output_file_id is not None
    file = opened.client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert file.expires_at == file.created_at + 3600


def test_the_lines_come_in_another_order_which_the_file_decides(desk: Open) -> None:
    questions = [f"question {n}" for n in range(20)]
    orders = []
    for server in (desk(), desk()):
        batch = server.run([asks(question) for question in questions])
        orders.append([line["custom_id"] for line in server.lines(batch.output_file_id)])
    assert orders[0] == orders[1] != questions
    two = desk()
    for file in (["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]):
        batch = two.run([asks(question) for question in file])
        assert [line["custom_id"] for line in two.lines(batch.output_file_id)] == file[::-1]


def test_a_line_gets_the_answer_that_a_request_gets(desk: Open) -> None:
    opened = desk(
        reply=[
            {"match": "label", "one_of": ["red", "green", "blue"]},
            {"match": r"costs (\d+)", "template": "{{ match[1] }} {{ hash % 100 }}"},
            "echo",
        ]
    )
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    lines = [
        *(asks(f"label {n}") for n in range(8)),
        asks("it costs 12"),
        asks("long " * 50, max_tokens=3),
        asks("fits", response_format=form, temperature=0.3),
    ]
    batch = opened.run(lines)
    got = {x["custom_id"]: x["response"]["body"] for x in opened.lines(batch.output_file_id)}
    for line in lines:
        alone = opened.client.chat.completions.create(**line["body"])
        assert got[line["custom_id"]] == alone.model_dump(exclude_unset=True)
    assert batch.usage is not None
    usages = [body["usage"] for body in got.values()]
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages)


def test_a_reply_in_python_answers_lines_too(desk: Open) -> None:
    seen = []

    def reply(body: dict[str, object]) -> str:
        seen.append(body)
        return f"reply to {len(seen)}"

    opened = desk(reply)
    batch = opened.run([asks("a"), asks("b")])
    said = [
        x["response"]["body"]["choices"][0]["message"] for x in opened.lines(batch.output_file_id)
    ]
    assert [message["content"] for message in said] == ["reply to 1", "reply to 2"]
    assert [body["messages"] for body in seen] == [
        asks("b")["body"]["messages"],
        asks("a")["body"]["messages"],
    ]


def test_the_older_endpoint_has_batches_too(desk: Open) -> None:
    opened = desk()
    line = {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"model": "m", "prompt": "Hello"},
    }
    batch = opened.run([line], endpoint="/v1/completions")
    (answer,) = opened.lines(batch.output_file_id)
    assert answer["response"]["body"]["choices"][0]["text"] == "Hello"


def test_a_batch_comes_through_its_states_in_their_order(desk: Open) -> None:
    opened = desk(batch={"latency": "400ms"})
    batch = opened.begin([asks(str(n)) for n in range(10)])
    states = [batch]
    while states[-1].status not in ENDED:
        states.append(opened.client.batches.retrieve(batch.id))
        time.sleep(0.005)
    order = ["validating", "in_progress", "finalizing", "completed"]
    names = [state.status for state in states]
    assert sorted(names, key=order.index) == names
    assert (names[0], names[-1]) == ("validating", "completed")
    done = [state.request_counts.completed for state in states if state.request_counts]
    assert done == sorted(done)
    assert all(state.output_file_id is None for state in states[:-1])
    last = states[-1]
    moments = [last.created_at, last.in_progress_at, last.finalizing_at, last.completed_at]
    assert None not in moments
    assert moments == sorted(moments, key=lambda moment: moment or 0)


def test_lines_are_answered_steadily(desk: Open) -> None:
    opened = desk(batch={"latency": "5s"})
    lines = [asks(str(n)) for n in range(2000)]
    batch = opened.wait(opened.begin(lines), ["in_progress"])
    deadline_s = time.monotonic() + 20
    while batch.request_counts is None or not batch.request_counts.completed >= 2:
        assert time.monotonic() < deadline_s
        batch = opened.client.batches.retrieve(batch.id)
    assert batch.request_counts.completed < 1000
    assert batch.request_counts.total == 2000


def test_lists_have_pages_and_begin_with_the_newest(desk: Open) -> None:
    opened = desk()
    ids = [opened.begin([asks(str(number))]).id for number in range(25)]
    page = opened.client.batches.list()
    assert [batch.id for batch in page.data] == ids[:4:-1]  # 20 of them
    assert page.has_more
    assert [batch.id for batch in opened.client.batches.list(limit=7)] == ids[::-1]
    after = opened.client.batches.list(limit=2, after=ids[10])
    assert [batch.id for batch in after.data] == [ids[9], ids[8]]
    with pytest.raises(openai.BadRequestError):
        opened.client.batches.list(limit=101)


def test_batches_belong_to_an_organization(desk: Open) -> None:
    keys = {name: {"organization": name[3:6]} for name in ("sk-red1", "sk-red2", "sk-blu1")}
    opened = desk(keys=keys)
    batch = opened.of("sk-red1").run([asks("a")])
    assert opened.of("sk-red2").lines(batch.output_file_id)
    assert [listed.id for listed in opened.of("sk-red2").client.batches.list()] == [batch.id]
    stranger = opened.of("sk-blu1").client
    assert stranger.batches.list().data == []
    for ask in (stranger.batches.retrieve, stranger.batches.cancel):
        with pytest.raises(openai.NotFoundError) as error:
            ask(batch.id)
        assert isinstance(error.value.body, dict)
        assert error.value.body["message"] == f"No batch found with id '{batch.id}'."


def test_a_cancelled_batch_keeps_what_it_has(desk: Open) -> None:
    opened = desk(batch={"latency": "2s"})
    batch = opened.begin([asks(str(n)) for n in range(50)])
    while not (batch.request_counts and batch.request_counts.completed):
        batch = opened.client.batches.retrieve(batch.id)
    cancelled = opened.client.batches.cancel(batch.id)
    assert (cancelled.status, cancelled.cancelling_at is None) == ("cancelling", False)
    ended = opened.wait(cancelled)
    assert (ended.status, ended.cancelled_at is None) == ("cancelled", False)
    _is_parted(opened, ended, 50, "batch_cancelled")
    assert opened.client.batches.cancel(batch.id) == ended


def _is_parted(opened: Desk, batch: Batch, count: int, code: str) -> None:
    """Some lines are answered, and each of the others is in the error file."""
    answered = {line["custom_id"] for line in opened.lines(batch.output_file_id)}
    others = {line["custom_id"]: line for line in opened.lines(batch.error_file_id)}
    assert answered
    assert others
    assert answered | others.keys() == {str(n) for n in range(count)}
    assert len(answered) + len(others) == count
    assert {line["error"]["code"] for line in others.values()} == {code}
    assert {line["response"] for line in others.values()} == {None}


def test_a_batch_that_has_ended_cannot_be_cancelled(desk: Open) -> None:
    opened = desk()
    for lines, status in (([asks("a")], "completed"), ([{}], "failed")):
        batch = opened.run(lines)
        with pytest.raises(openai.ConflictError) as error:
            opened.client.batches.cancel(batch.id)
        assert error.value.body == {
            "message": f"Cannot cancel a batch with status '{status}'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"endpoint": "/v1/nowhere"}, "endpoint", "invalid_value"),
        ({"endpoint": None}, "endpoint", "missing_required_parameter"),
        ({"input_file_id": None}, "input_file_id", "missing_required_parameter"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "output_expires_after.seconds",
            "invalid_value",
        ),
    ],
)
def test_an_order_that_openai_would_not_take_is_a_400(
    desk: Open, changed: dict[str, object], param: str, code: str
) -> None:
    opened = desk()
    order = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h", **changed}
    with pytest.raises(openai.BadRequestError) as error:
        opened.client.post("/batches", body=order, cast_to=object)
    assert (error.value.param, error.value.code) == (param, code)
    assert opened.client.batches.list().data == []


def test_other_methods_are_not_allowed(desk: Open) -> None:
    client = desk().client
    for path in ("/files/file-1/content", "/batches/batch_1/cancel", "/batches/batch_1/content"):
        with pytest.raises(openai.APIStatusError) as error:
            client.delete(path, cast_to=object)
        assert error.value.status_code == 405
