from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gptflow.data.sinks.failed import FailedSink, failed_path, remove_failed
from gptflow.records import Failure, FailureKind, RowResult, RowStatus


def written(raw: bytes, failure: Failure) -> bytes:
    stream = io.BytesIO()
    sink = FailedSink(stream)
    sink.write(RowResult(3, RowStatus.FAILED, raw, failure=failure))
    sink.finish()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("out/labels.jsonl", "out/labels.failed.jsonl"),
        ("labels.csv", "labels.failed.jsonl"),
        ("labels.v2.json", "labels.v2.failed.jsonl"),
    ],
)
def test_failed_rows_stand_beside_the_output(output: str, expected: str) -> None:
    assert failed_path(Path(output)) == Path(expected)


def test_a_failed_row_has_the_record_the_error_and_the_reply() -> None:
    failure = Failure(
        FailureKind.INVALID, "no label", "label", None, attempts=3, reply='I think "pos"\n'
    )

    line = written(b'{"b": 1.10}', failure)

    assert line.startswith(b'{"row":{"b": 1.10},"error":')
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "row": {"b": 1.1},
        "error": {
            "kind": "invalid",
            "message": "no label",
            "step": "label",
            "status": None,
            "code": None,
            "attempts": 3,
            "history": [],
        },
        "reply": 'I think "pos"\n',
    }


def test_without_a_reply_it_is_null() -> None:
    line = written(b"{}", Failure(FailureKind.TIMEOUT, "no reply", status=504))

    assert json.loads(line)["reply"] is None
    assert json.loads(line)["error"]["status"] == 504


def test_a_reply_with_a_lone_surrogate_is_written_as_an_escape() -> None:
    line = written(b"{}", Failure(FailureKind.INVALID, "\udfff", reply="x\ud800"))

    assert json.loads(line.decode())["reply"] == "x\ud800"


@pytest.mark.parametrize("raw", [b"{}", b'{"a": "\\ud800"}'])
def test_what_was_written_is_known_again_and_removed(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.failed.jsonl"
    path.write_bytes(written(raw, Failure(FailureKind.TIMEOUT, "no reply")) * 2)

    remove_failed(path)
    remove_failed(path)

    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{}",
        b'{"row":1}',
        b'{"row":',
        b'{"row":{},"error":{},"more":1}',
        b'{"row":[1,',
    ],
)
def test_what_somebody_else_wrote_is_not_removed(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.failed.jsonl"
    path.write_bytes(text)

    remove_failed(path)

    assert path.read_bytes() == text
