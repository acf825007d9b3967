from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import openai
import pytest
from openai.types import Batch

from gptflow.mock.batch.shelf import line_count
from tests.mock.batch.conftest import CHAT, Desk, Open, asks, jsonl


def test_each_request_is_a_line_with_what_it_made(desk: Open, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    opened = desk(log=log)
    batch = opened.run([asks("a"), asks("b"), asks("c")])
    opened.lines(batch.output_file_id)
    opened.client.files.delete(batch.input_file_id)
    deadline_s = time.monotonic() + 5
    while log.read_bytes().count(b"\n") < opened.server.requests:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(x["method"], x["path"], x["lines"], x["made"]) for x in lines]
    polls = [("GET", f"/v1/batches/{batch.id}", None, None)] * (len(lines) - 4)
    assert told == [
        ("POST", "/v1/files", 3, batch.input_file_id),
        ("POST", "/v1/batches", 3, batch.id),
        *polls,
        ("GET", f"/v1/files/{batch.output_file_id}/content", 3, None),
        ("DELETE", f"/v1/files/{batch.input_file_id}", None, None),
    ]
    assert {x["key"] for x in lines} == {"-one"}
    assert opened.server.stats.batches == {
        "uploads": 1,
        "batches": 1,
        "polls": len(polls),
        "downloads": 1,
        "deletions": 1,
        "lines": 3,
        "prompt_tokens": 3,
        "completion_tokens": 3,
    }


def test_what_is_refused_is_not_counted_as_done(desk: Open) -> None:
    opened = desk()
    with pytest.raises(openai.NotFoundError):
        opened.client.batches.retrieve("batch_1")
    assert opened.noted()[0].status == 404
    assert opened.server.stats.batches == {}


def _upload_head(opened: Desk, body_bytes: int) -> bytes:
    host = urlsplit(opened.server.base_url).netloc
    return (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sk-one\r\n"
        f"Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: {body_bytes}\r\n\r\n"
    ).encode()


def test_an_upload_that_breaks_off_leaves_nothing(
    desk: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = desk()
    address = urlsplit(opened.server.base_url)
    for sent in (b"", b"--xx\r\nContent-Disposition: form-data; name=", b"--xx\r\n" + b"x" * 9999):
        with socket.create_connection((address.hostname, address.port or 0), 10) as connection:
            connection.sendall(_upload_head(opened, 100_000) + sent)
    assert opened.upload([asks("a")])
    assert len(opened.client.files.list().data) == 1
    assert opened.server.requests == 2
    assert capfd.readouterr().err == ""


def test_a_client_that_leaves_a_download_does_no_harm(
    desk: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = desk()
    content = jsonl([asks("x")]) + b"\n" * 20_000_000
    file_id = opened.upload(content)
    address = urlsplit(opened.server.base_url)
    with socket.create_connection((address.hostname, address.port or 0), 10) as connection:
        head = f"GET /v1/files/{file_id}/content HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{head}Authorization: Bearer sk-one\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    entry = opened.noted()[1]
    assert (entry.answered, entry.status) == (False, None)
    assert opened.client.files.content(file_id).read() == content
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"\n", 1)]
)
def test_lines_are_counted_with_an_unended_last_one(content: bytes, lines: int) -> None:
    assert line_count(content) == lines


def test_fifty_thousand_lines_are_served_beside_others(desk: Open) -> None:
    opened = desk()
    line = json.dumps(asks("question %d"))
    content = "".join(line % (n, n) + "\n" for n in range(50_000)).encode()
    order = {"input_file_id": opened.upload(content), "endpoint": CHAT, "completion_window": "24h"}
    waits_s: list[float] = []
    done = Event()
    asking = Thread(target=_ask_until, args=(opened.server.base_url, done, waits_s))
    asking.start()
    began_s = time.monotonic()
    try:
        begun = opened.client.post("/batches", body=order, cast_to=Batch)
        batch = opened.wait(begun, pause_s=0.05)
    finally:
        batch_s = time.monotonic() - began_s
        done.set()
        asking.join()
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 50_000
    assert max(waits_s) < batch_s / 3  # nobody waits until it is through
    assert batch.output_file_id is not None
    answers = opened.client.files.content(batch.output_file_id).read().splitlines()
    assert len(answers) == 50_000


def _ask_until(base_url: str, done: Event, waits_s: list[float]) -> None:
    """Ask again and again, and note how long each answer took."""
    with closing(HTTPConnection(urlsplit(base_url).netloc, timeout=10)) as connection:
        while not done.wait(0.02):
            began_s = time.monotonic()
            connection.request("GET", "/v1/models", headers={"Authorization": "Bearer sk-two"})
            connection.getresponse().read()
            waits_s.append(time.monotonic() - began_s)
