"""The endpoints of files and batches."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from gptflow.mock.batch.form import Form
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.shelf import Shelf, StoredFile
from gptflow.mock.batch.work import Work
from gptflow.mock.failure.model import JSON, error_object
from gptflow.mock.request import Endpoint
from gptflow.mock.simulator import Answer, Incoming, Moment, Simulator

_PATH = re.compile(r"(?:/v1)?/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?")
_DAY_S = 86_400
_UPLOAD_LASTS_S = 30 * _DAY_S
_ENDPOINTS = ("/v1/chat/completions", "/v1/completions")


class Asked(msgspec.Struct, frozen=True):
    """A request to one of these endpoints."""

    incoming: Incoming
    owner: str
    thing_id: str
    form: Form | None


class BatchApi:
    """Answers all that is asked about files and batches."""

    def __init__(self, simulator: Simulator, prefix: str) -> None:
        """`prefix`: what the ids begin with, behind the name of their kind."""
        self._simulator = simulator
        self._files: Shelf[StoredFile] = Shelf(f"file-{prefix}")
        self._batches: Shelf[Batch] = Shelf(f"batch_{prefix}")
        self._work = Work(simulator.batch_rules, simulator.seed, self._files, self._line)
        self._routes: dict[tuple[str, str, str], Callable[[Asked], Answer]] = {
            ("POST", "files", ""): self._upload,
            ("GET", "files", ""): self._list_files,
            ("GET", "files", "id"): lambda asked: _told(self._file(asked).wire()),
            ("DELETE", "files", "id"): self._delete,
            ("GET", "files", "content"): self._content,
            ("POST", "batches", ""): self._create,
            ("GET", "batches", ""): self._list_batches,
            ("GET", "batches", "id"): lambda asked: _told(self._batch(asked).wire()),
            ("POST", "batches", "cancel"): self._cancel,
        }

    def _line(self, endpoint: Endpoint, key: str, body: bytes) -> Answer:
        moment = self._simulator.moment(time.monotonic(), time.time(), 0)
        return self._simulator.line(endpoint, key, body, moment)

    @staticmethod
    def is_for(path: str) -> bool:
        """Whether a path is one of these."""
        return _PATH.fullmatch(path) is not None

    def answer(self, incoming: Incoming, form: Form | None, moment: Moment) -> Answer:
        """The answer to a request whose path is one of these."""
        found = _PATH.fullmatch(incoming.path)
        assert found is not None
        kind, thing_id, verb = found.groups()
        route = self._routes.get((incoming.method, kind, verb or ("id" if thing_id else "")))
        if route is None:
            message = f"Not allowed to {incoming.method} on {incoming.path}."
            return _refused(405, message, code="method_not_supported")
        owner = self._simulator.owner(incoming.key)
        try:
            return self._simulator.refusal(incoming.key, moment) or route(
                Asked(incoming, owner, thing_id or "", form)
            )
        except Refused as refused:
            return refused.answer

    def _upload(self, asked: Asked) -> Answer:
        form = asked.form
        if form is None or not form.is_whole:
            raise Refused(400, "Could not parse multipart form")
        file, purpose = form.parts.get("file"), form.parts.get("purpose")
        if file is None or file.filename is None:
            raise Refused(400, "'file' is a required property")
        if purpose is None:
            raise Refused(400, "'purpose' is a required property")
        stored = StoredFile(
            id=self._files.new_id(),
            owner=asked.owner,
            purpose=purpose.content.decode("utf-8", "replace"),
            name=file.filename,
            content=file.content,
            created_at=int(time.time()),
            expires_at=int(time.time()) + _UPLOAD_LASTS_S,
        )
        return _told(self._files.put(stored).wire(), lines=stored.lines)

    def _list_files(self, asked: Asked) -> Answer:
        files = self._files.of(asked.owner)
        return _told(_page(files[::-1], asked.incoming.query, 10_000))

    def _file(self, asked: Asked, thing_id: str = "") -> StoredFile:
        thing_id = thing_id or asked.thing_id
        file = self._files.get(asked.owner, thing_id)
        if file is None:
            raise Refused(404, f"No such File object: {thing_id}", "id")
        return file

    def _delete(self, asked: Asked) -> Answer:
        file = self._file(asked)
        self._files.take_away(file)
        return _told({"object": "file", "deleted": True, "id": file.id})

    def _content(self, asked: Asked) -> Answer:
        content = self._file(asked).content
        return Answer(200, [(b"content-type", b"application/octet-stream")], content)

    def _create(self, asked: Asked) -> Answer:
        wanted = msgspec.json.decode(asked.incoming.body)
        file = self._file(asked, wanted["input_file_id"])
        now = int(time.time())
        batch = Batch(
            id=self._batches.new_id(),
            owner=asked.owner,
            key=asked.incoming.key,
            endpoint=wanted["endpoint"].removeprefix("/v1/"),
            input=file,
            created_at=now,
            expires_at=now + _DAY_S,
            metadata=wanted.get("metadata"),
        )
        self._work.begin(self._batches.put(batch))
        return _told(batch.wire(), lines=file.lines)

    def _list_batches(self, asked: Asked) -> Answer:
        batches = self._batches.of(asked.owner)
        return _told(_page(batches[::-1], asked.incoming.query, 20))

    def _batch(self, asked: Asked) -> Batch:
        batch = self._batches.get(asked.owner, asked.thing_id)
        if batch is None:
            raise Refused(404, f"No batch found with id '{asked.thing_id}'.")
        return batch

    def _cancel(self, asked: Asked) -> Answer:
        batch = self._batch(asked)
        if batch.has_ended:
            raise Refused(409, f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            batch.turn("cancelling", time.time())
            batch.cancelled.set()
        return _told(batch.wire())


class Refused(Exception):
    """What OpenAI does not do."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.answer = _refused(status, message, param, code)


def _refused(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> Answer:
    body = error_object(message, "invalid_request_error", code, param)
    return Answer(status, [(b"content-type", JSON)], body)


def _told(value: dict[str, Any], lines: int | None = None) -> Answer:
    return Answer(200, [(b"content-type", JSON)], msgspec.json.encode(value), lines=lines)


def _page(things: list[Any], query: str, most: int) -> dict[str, Any]:
    """What a list's parameters limit and after leave of it."""
    asked = parse_qs(query)
    limit = int(asked.get("limit", [str(most)])[0])
    if "after" in asked:
        ids = [thing.id for thing in things]
        place = ids.index(asked["after"][0]) if asked["after"][0] in ids else -1
        things = things[place + 1 :]
    shown = [thing.wire() for thing in things[:limit]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(things) > limit,
    }
