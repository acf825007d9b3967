"""Drives a batch from its validation to its files, as slowly as the scenario says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import msgspec

from gptflow.mock.batch.question import Input, InputError, Question, read_input
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.shelf import Shelf, StoredFile
from gptflow.mock.batch.slices import sliced
from gptflow.mock.request import Endpoint
from gptflow.mock.scenario import BatchRules
from gptflow.mock.simulator import Answer

AnswerLine = Callable[[Endpoint, str, bytes], Answer]
"""The answer to one line: endpoint, key and body."""


class Work:
    """What answers the lines of batches."""

    def __init__(
        self, rules: BatchRules, seed: int, files: Shelf[StoredFile], answer: AnswerLine
    ) -> None:
        self._rules = rules
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._files = files
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, batch: Batch) -> None:
        """Start on a batch, within the server's loop."""
        task = asyncio.create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: Batch) -> None:
        began_s = time.monotonic()
        latency_s = self._rules.latency.draw(self._random)
        found = await read_input(
            batch.input.content, f"/v1/{batch.endpoint}", self._rules.max_lines
        )
        if found.errors:
            _fail(batch, found.errors)
            return
        batch.model = found.model
        batch.total = len(found.questions)
        batch.turn("in_progress", time.time())
        results = _Results(batch)
        await self._answer_all(batch, found, results)
        await asyncio.sleep(began_s + latency_s - time.monotonic())
        batch.turn("finalizing", time.time())
        self._store(batch, results)
        batch.turn("completed", time.time())

    async def _answer_all(self, batch: Batch, found: Input, results: _Results) -> None:
        questions = list(found.questions)
        self._random.shuffle(questions)
        async for question in sliced(questions):
            results.add(question, self._answer(batch.endpoint, batch.key, question.body))

    def _store(self, batch: Batch, results: _Results) -> None:
        for kind, content in (("output", results.output), ("error", results.errors)):
            if content:
                stored = StoredFile(
                    id=self._files.new_id(),
                    owner=batch.owner,
                    purpose="batch_output",
                    name=f"{batch.id}_{kind}.jsonl",
                    content=content,
                    created_at=int(time.time()),
                    expires_at=None,
                )
                self._files.put(stored)
                setattr(batch, f"{kind}_file_id", stored.id)


class _Results:
    """The two files of a batch while they grow."""

    def __init__(self, batch: Batch) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self._batch = batch

    def add(self, question: Question, answer: Answer) -> None:
        """Note the answer to a line, in the file in which it belongs."""
        batch = self._batch
        number = batch.completed + batch.failed
        response = {
            "status_code": answer.status,
            "request_id": f"{batch.id[6:]}{number:06x}",
            "body": msgspec.Raw(answer.body),
        }
        line = {
            "id": f"batch_req_{batch.id[6:]}{number:06x}",
            "custom_id": question.custom_id,
            "response": response,
            "error": None,
        }
        succeeded = 200 <= answer.status < 300
        if succeeded:
            batch.completed += 1
            if answer.request is not None:
                batch.prompt_tokens += answer.request.prompt_tokens
            batch.completion_tokens += answer.completion_tokens
        else:
            batch.failed += 1
        target = self.output if succeeded else self.errors
        target += msgspec.json.encode(line)
        target += b"\n"


def _fail(batch: Batch, errors: list[InputError]) -> None:
    batch.errors = [msgspec.to_builtins(error) for error in errors]
    batch.turn("failed", time.time())
