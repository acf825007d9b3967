from __future__ import annotations

from typing import Any

import pytest

from tests.mock.batch.conftest import Desk, Open, asks, jsonl


def _errors(opened: Desk, lines: list[Any] | bytes) -> list[tuple[Any, ...]]:
    """The errors of the batch that fails since its file is like this."""
    batch = opened.run(lines)
    assert (batch.status, batch.failed_at is None) == ("failed", False)
    assert (batch.output_file_id, batch.error_file_id, batch.in_progress_at) == (None, None, None)
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0
    assert batch.errors is not None
    assert batch.errors.object == "list"
    assert batch.errors.data is not None
    return [(error.line, error.code, error.param, error.message) for error in batch.errors.data]


def test_each_missing_field_is_told_with_its_line(desk: Open) -> None:
    lines = [asks(str(n)) for n in range(4)]
    names = ["custom_id", "method", "url", "body"]
    for line, name in zip(lines, names, strict=True):
        del line[name]
    assert _errors(desk(), [asks("good"), *lines]) == [
        (number, "missing_required_parameter", name, f"Missing required parameter: '{name}'.")
        for number, name in enumerate(names, start=2)
    ]


@pytest.mark.parametrize(
    ("line", "code", "param", "message"),
    [
        (asks("1"), "duplicate_custom_id", "custom_id", "The custom_id '1' for this request is a"),
        ({**asks("2"), "method": "GET"}, "invalid_method", "method", "Invalid value: 'GET'."),
        ({**asks("2"), "url": "/v1/embeddings"}, "invalid_url", "url", "The URL provided for this"),
        ({**asks("2"), "custom_id": 7}, "invalid_type", "custom_id", "Invalid type for"),
        ([], "invalid_request", None, "This line is not"),
        (
            asks("2", stream=True),
            "streaming_unsupported",
            "body.stream",
            "Chat Completions: Streaming is not supported in the Batch API.",
        ),
        (
            asks("2", model="gpt-4o"),
            "mismatched_model",
            "body.model",
            "The model 'gpt-4o' for this request does not match the rest of the batch.",
        ),
        (asks("2", model=None), "invalid_request", "body.model", "Model parameter is required."),
        (
            {**asks("2"), "body": {"model": "gpt-4o-mini"}},
            "invalid_request",
            "body.messages",
            "Messages parameter is required.",
        ),
    ],
)
def test_a_line_that_does_not_fit_is_told(
    desk: Open, line: Any, code: str, param: str | None, message: str
) -> None:
    ((number, *told, said),) = _errors(desk(), [asks("1"), line, asks("3")])
    assert (number, *told) == (2, code, param)
    assert said.startswith(message)


def test_a_line_that_is_no_json_is_told(desk: Open) -> None:
    lines = jsonl([asks("1")]) + b"{broken\n\n" + b'{"custom_id": "\xff"}\n' + jsonl([asks("2")])
    message = "This line is not parseable as valid JSON."
    assert _errors(desk(), lines) == [
        (2, "invalid_json_line", None, message),
        (4, "invalid_json_line", None, message),
    ]


def test_a_line_that_is_nested_too_deep_is_told(desk: Open) -> None:
    deep = b'{"custom_id": "2", "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    ((line, code, *_),) = _errors(desk(), jsonl([asks("1")]) + deep)
    assert (line, code) == (2, "invalid_json_line")


def test_an_empty_line_and_a_missing_last_newline_do_no_harm(desk: Open) -> None:
    batch = desk().run(b"\n" + jsonl([asks("1")]) + b"  \n" + jsonl([asks("2")]).rstrip())
    assert (batch.status, batch.request_counts and batch.request_counts.total) == ("completed", 2)


def test_a_file_without_lines_is_told(desk: Open) -> None:
    ((line, code, param, _),) = _errors(desk(), b"\n\n")
    assert (line, code, param) == (None, "empty_file", None)


def test_too_many_lines_are_told(desk: Open) -> None:
    opened = desk(batch={"max_lines": 3})
    ((line, code, _, message),) = _errors(opened, [asks(str(n)) for n in range(4)])
    assert (line, code) == (None, "too_many_tasks")
    assert "more than 3 requests" in message
    assert opened.run([asks(str(n)) for n in range(3)]).status == "completed"


def test_no_more_than_a_hundred_errors_are_told(desk: Open) -> None:
    assert len(_errors(desk(), [{}] * 500)) == 100


def test_a_model_that_there_is_not_is_told(desk: Open) -> None:
    opened = desk(models=["gpt-4o-mini"], keys={"sk-one": {}, "sk-two": {"models": ["gpt-4o"]}})
    assert _errors(opened, [asks("1", model="gpt-9")]) == [
        (
            1,
            "model_not_found",
            "body.model",
            "The provided model 'gpt-9' is not supported by the Batch API.",
        )
    ]
    assert opened.run([asks("1")]).status == "completed"
    ((_, code, *_),) = _errors(opened.of("sk-two"), [asks("1")])
    assert code == "model_not_found"


def test_a_file_that_there_is_not_is_told(desk: Open) -> None:
    opened = desk(keys={"sk-one": {"organization": "org-a"}, "sk-two": {"organization": "org-b"}})
    anothers = opened.of("sk-two").upload([asks("1")])
    for file_id in ("file-nowhere", anothers):
        batch = opened.client.batches.create(
            input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        failed = opened.wait(batch)
        assert (failed.status, failed.input_file_id) == ("failed", file_id)
        assert failed.errors is not None
        assert failed.errors.data is not None
        (error,) = failed.errors.data
        assert (error.code, error.param, error.line) == ("invalid_request", "file_id", None)
        assert error.message == (
            f"Cannot find file {file_id}, or organization org-a does not have access to it."
        )
