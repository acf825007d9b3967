from __future__ import annotations

import json
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from gptflow.mock.batch.form import Form
from tests.mock.batch.conftest import Open, asks, jsonl


def test_a_file_comes_back_as_it_went(desk: Open) -> None:
    client = desk().client
    content = jsonl([asks("a"), asks("b\u2028\u00e9")])
    file = client.files.create(file=("my batch.jsonl", content), purpose="batch")
    assert (file.filename, file.bytes, file.purpose) == ("my batch.jsonl", len(content), "batch")
    assert (file.object, file.status, file.status_details) == ("file", "processed", None)
    assert abs(file.created_at - time.time()) < 60
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content


def test_a_batch_file_lasts_thirty_days_unless_told_otherwise(desk: Open) -> None:
    client = desk().client
    file = client.files.create(file=("a.jsonl", jsonl([asks("a")])), purpose="batch")
    assert file.expires_at == file.created_at + 2_592_000
    brief = client.files.create(
        file=("a.jsonl", jsonl([asks("a")])),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert brief.expires_at == brief.created_at + 3600
    other = client.files.create(file=("a.txt", b"any"), purpose="user_data")
    assert other.expires_at is None


def test_a_deleted_file_is_gone(desk: Open) -> None:
    opened = desk()
    file_id = opened.upload([asks("a")])
    deleted = opened.client.files.delete(file_id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file_id, True, "file")
    for ask in (
        opened.client.files.retrieve,
        opened.client.files.content,
        opened.client.files.delete,
    ):
        with pytest.raises(openai.NotFoundError) as error:
            ask(file_id)
        assert error.value.body == {
            "message": f"No such File object: {file_id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }


def test_lists_have_pages_and_begin_with_the_newest(desk: Open) -> None:
    opened = desk()
    ids = [opened.upload([asks(str(number))]) for number in range(5)]
    opened.client.files.create(file=("a.txt", b"any"), purpose="vision")
    page = opened.client.files.list(limit=2, purpose="batch")
    assert [file.id for file in page.data] == ids[:2:-1]
    assert page.has_more
    everything = [file.id for file in opened.client.files.list(limit=2, purpose="batch")]
    assert everything == ids[::-1]
    upwards = opened.client.files.list(order="asc", purpose="batch")
    assert [file.id for file in upwards] == ids


@pytest.mark.parametrize(
    ("name", "content", "purpose", "message"),
    [
        ("a.txt", b'{"a": 1}\n', "batch", "Invalid file format for Batch API. Must be .jsonl"),
        ("a.jsonl", b"", "batch", "Invalid file format for Batch API. Must be .jsonl"),
        ("a.jsonl", b"{broken\n", "batch", "Invalid file format for Batch API. Must be .jsonl"),
        ("a.jsonl", b"[1]\n", "batch", "Invalid file format for Batch API. Must be .jsonl"),
        ("a.jsonl", b"{}" + b" " * 100, "batch", "File is too large."),
        ("a.jsonl", b"{}\n", "homework", "'homework' is not one of"),
    ],
)
def test_an_upload_that_openai_would_not_take_is_a_400(
    desk: Open, name: str, content: bytes, purpose: Any, message: str
) -> None:
    client = desk(batch={"max_bytes": 100}).client
    with pytest.raises(openai.BadRequestError) as error:
        client.files.create(file=(name, content), purpose=purpose)
    assert isinstance(error.value.body, dict)
    assert error.value.body["message"].startswith(message)
    assert client.files.list().data == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("no form", "Could not parse multipart form"),
        ("PURPOSE", "'file' is a required property"),
        ("FILE", "'purpose' is a required property"),
        ("FILE cut", "Could not parse multipart form"),
    ],
)
def test_a_form_without_its_parts_is_a_400(desk: Open, body: str, message: str) -> None:
    forms = {
        "PURPOSE": _form("purpose", "batch"),
        "FILE": _form('file"; filename="a.jsonl', "{}"),
        "FILE cut": _form('file"; filename="a.jsonl', "{}")[:-8],
    }
    address = urlsplit(desk().server.base_url)
    with closing(HTTPConnection(address.netloc, timeout=10)) as connection:
        headers = {
            "Authorization": "Bearer sk-one",
            "Content-Type": "multipart/form-data; boundary=xx",
        }
        connection.request("POST", "/v1/files", forms.get(body, body), headers)
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.load(answer)["error"]["message"] == message


def _form(name: str, value: str) -> str:
    head = f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return f"{head}{value}\r\n--xx--\r\n"


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_a_form_is_the_same_in_whatever_pieces_it_comes(size: int) -> None:
    file = b"-- xx\r\n\r\n--x\n" + bytes(range(256))
    body = (
        b'preamble\r\n--xx\r\nContent-Disposition: form-data; name="file"; filename="a%22b"\r\n'
        b"Content-Type: text/plain\r\n\r\n" + file + b"\r\n--xx\r\ncontent-disposition: form-data;"
        b' name="purpose"\r\n\r\nbatch\r\n--xx--\r\nepilogue'
    )
    form = Form('multipart/form-data; boundary="xx"')
    for begin in range(0, len(body), size):
        assert not form.is_whole
        form.feed(body[begin : begin + size])
        if form.is_whole:
            break
    assert form.is_whole
    parts = {name: (bytes(part.content), part.filename) for name, part in form.parts.items()}
    assert parts == {"file": (file, 'a"b'), "purpose": (b"batch", None)}


def test_files_belong_to_an_organization(desk: Open) -> None:
    keys = {name: {"organization": name[3:6]} for name in ("sk-red1", "sk-red2", "sk-blu1")}
    opened = desk(keys=keys)
    file_id = opened.of("sk-red1").upload([asks("a")])
    assert opened.of("sk-red2").client.files.retrieve(file_id).id == file_id
    assert [file.id for file in opened.of("sk-red2").client.files.list()] == [file_id]
    for stranger in ("sk-blu1", "sk-unknown"):
        assert opened.of(stranger).client.files.list().data == []
        for ask in (
            opened.of(stranger).client.files.content,
            opened.of(stranger).client.files.delete,
        ):
            with pytest.raises(openai.NotFoundError):
                ask(file_id)
    assert opened.of("sk-red1").client.files.retrieve(file_id).id == file_id
