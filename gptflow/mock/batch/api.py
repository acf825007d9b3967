"""The endpoints of files and batches."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from gptflow.mock.answer import Answer, Incoming, Moment, refused
from gptflow.mock.batch.form import Form
from gptflow.mock.batch.gate import Gate
from gptflow.mock.batch.order import page_of, read_order, read_upload
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.shelf import Shelf, StoredFile, line_count
from gptflow.mock.batch.work import Work
from gptflow.mock.failure.model import JSON
from gptflow.mock.request import BadRequestError
from gptflow.mock.simulator import Simulator

_PATH = re.compile(r"(?:/v1)?/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?")
_FILES_LISTED = 10_000
_BATCHES_LISTED = 20


class Asked(msgspec.Struct, frozen=True):
    """A request to one of these endpoints."""

    incoming: Incoming
    owner: str
    thing_id: str
    """The file or batch in the path."""
    form: Form | None


class BatchApi:
    """Answers all that is asked about files and batches."""

    def __init__(self, simulator: Simulator, prefix: str) -> None:
        """`prefix`: what all ids begin with, behind the name of their kind."""
        self._simulator = simulator
        self._files: Shelf[StoredFile] = Shelf(f"file-{prefix}")
        self._batches: Shelf[Batch] = Shelf(f"batch_{prefix}")
        self._gate = Gate(simulator)
        self.counts: Counter[str] = Counter()
        """How often each was done: see Stats.batches."""
        self._work = Work(simulator, self._files, self._batches, self.counts)
        self._routes: dict[tuple[str, str, str], tuple[str, Callable[[Asked], Answer]]] = {
            ("POST", "files", ""): ("uploads", self._upload),
            ("GET", "files", ""): ("lists", self._list_files),
            ("GET", "files", "id"): ("looks", self._show_file),
            ("DELETE", "files", "id"): ("deletions", self._delete),
            ("GET", "files", "content"): ("downloads", self._content),
            ("POST", "batches", ""): ("batches", self._create),
            ("GET", "batches", ""): ("lists", self._list_batches),
            ("GET", "batches", "id"): ("polls", self._show_batch),
            ("POST", "batches", "cancel"): ("cancels", self._cancel),
        }

    @staticmethod
    def is_for(path: str) -> bool:
        """Whether a path is one of these."""
        return _PATH.fullmatch(path) is not None

    def answer(self, incoming: Incoming, form: Form | None, moment: Moment) -> Answer:
        """The answer to a request whose path is one of these. `form`: the body, if it is one."""
        return self._gate.passed(incoming, moment, lambda: self._done(incoming, form))

    def _done(self, incoming: Incoming, form: Form | None) -> Answer:
        found = _PATH.fullmatch(incoming.path)
        assert found is not None  # is_for
        kind, thing_id, verb = found.groups("")
        name, route = self._routes.get(
            (incoming.method, kind, verb or ("id" if thing_id else "")), ("", _not_allowed)
        )
        owner = self._simulator.owner(incoming.key)
        try:
            answer = route(Asked(incoming, owner, thing_id, form))
        except BadRequestError as bad:
            return refused(400, bad.message, bad.param, bad.code)
        if answer.status < 400:
            self.counts[name] += 1
        return answer

    def _upload(self, asked: Asked) -> Answer:
        upload = read_upload(asked.form, self._simulator.batch_rules.max_bytes)
        now = int(time.time())
        stored = StoredFile(
            id=self._files.new_id(),
            owner=asked.owner,
            purpose=upload.purpose,
            name=upload.name,
            content=upload.content,
            created_at=now,
            expires_at=now + upload.lasts_s if upload.lasts_s else None,
            lines=line_count(upload.content),
        )
        return _made(self._files.put(stored), stored.lines)

    def _list_files(self, asked: Asked) -> Answer:
        files = self._files.of(asked.owner)[::-1]
        return _told(page_of(files, asked.incoming.query, _FILES_LISTED))

    def _show_file(self, asked: Asked) -> Answer:
        file = self._files.get(asked.owner, asked.thing_id)
        return _told(file.wire()) if file else _no_file(asked.thing_id)

    def _delete(self, asked: Asked) -> Answer:
        file = self._files.get(asked.owner, asked.thing_id)
        if file is None:
            return _no_file(asked.thing_id)
        self._files.take_away(file)
        return _told({"object": "file", "deleted": True, "id": file.id})

    def _content(self, asked: Asked) -> Answer:
        file = self._files.get(asked.owner, asked.thing_id)
        if file is None:
            return _no_file(asked.thing_id)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-disposition", b'attachment; filename="%s"' % _ascii(file.name)),
        ]
        return Answer(200, headers, file.content, lines=file.lines)

    def _create(self, asked: Asked) -> Answer:
        order = read_order(asked.incoming.body)
        file = self._files.get(asked.owner, order.input_file_id)
        now_s = time.time()
        batch = Batch(
            id=self._batches.new_id(),
            owner=asked.owner,
            key=asked.incoming.key,
            order=order,
            input=file,
            created_at=int(now_s),
            moments={"expires_at": int(now_s + self._simulator.batch_rules.window)},
        )
        self._work.begin(self._batches.put(batch))
        return _made(batch, file.lines if file else 0)

    def _list_batches(self, asked: Asked) -> Answer:
        batches = self._batches.of(asked.owner)[::-1]
        return _told(page_of(batches, asked.incoming.query, _BATCHES_LISTED))

    def _show_batch(self, asked: Asked) -> Answer:
        batch = self._batches.get(asked.owner, asked.thing_id)
        return _told(batch.wire()) if batch else _no_batch(asked.thing_id)

    def _cancel(self, asked: Asked) -> Answer:
        batch = self._batches.get(asked.owner, asked.thing_id)
        if batch is None:
            return _no_batch(asked.thing_id)
        if batch.has_ended and batch.status != "cancelled":
            return refused(409, f"Cannot cancel a batch with status '{batch.status}'.")
        batch.cancel(time.time())
        return _told(batch.wire())


def _told(value: dict[str, Any]) -> Answer:
    return Answer(200, [(b"content-type", JSON)], msgspec.json.encode(value))


def _made(thing: StoredFile | Batch, lines: int) -> Answer:
    return msgspec.structs.replace(_told(thing.wire()), lines=lines, made=thing.id)


def _no_file(file_id: str) -> Answer:
    return refused(404, f"No such File object: {file_id}", "id")


def _no_batch(batch_id: str) -> Answer:
    return refused(404, f"No batch found with id '{batch_id}'.")


def _not_allowed(asked: Asked) -> Answer:
    message = f"Not allowed to {asked.incoming.method} on {asked.incoming.path}."
    return refused(405, message, code="method_not_supported")


def _ascii(name: str) -> bytes:
    """A name as a header can hold it."""
    return re.sub(r'[^ -~]|["\\]', "_", name).encode()
