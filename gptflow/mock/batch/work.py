"""Drives batches from their validation to their files, as slowly as the scenario says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from gptflow.mock.answer import Moment
from gptflow.mock.batch.course import ANSWERED, VALIDATED, Course, Courses
from gptflow.mock.batch.objection import Objections
from gptflow.mock.batch.question import Input, InputError, Question, Terms, read_input
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.results import Results
from gptflow.mock.batch.shelf import Shelf, StoredFile, line_count
from gptflow.mock.batch.slices import sliced
from gptflow.mock.simulator import Simulator

_PATIENCE_S = 0.005
"""A line that is due later than this is waited for."""


class Work:
    """All batches of a server."""

    def __init__(
        self,
        simulator: Simulator,
        files: Shelf[StoredFile],
        batches: Shelf[Batch],
        counts: Counter[str],
    ) -> None:
        """`counts`: gets the `lines` that are answered, and the tokens of batches that ended."""
        self._simulator = simulator
        self._files = files
        self._rules = simulator.batch_rules
        self._courses = Courses(self._rules, simulator.seed)
        self._objections = Objections(simulator, batches)
        self._counts = counts
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, batch: Batch) -> None:
        """Start on a batch, within the server's loop."""
        course = self._courses.next_for(batch, time.monotonic())
        task = asyncio.create_task(self._run(batch, course))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._note_end(batch, task))

    def _note_end(self, batch: Batch, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # such as a reply function that raises: nobody else would hear of it
            _fail(batch, [self._objections.scripted(batch, "server_error")])
            told = {"message": f"{batch.id} broke off", "exception": error}
            task.get_loop().call_exception_handler(told)

    async def _run(self, batch: Batch, course: Course) -> None:
        found = await self._read(batch)
        await _until(batch, course.at_s(VALIDATED))
        errors = self._objections.to(batch, found, course)
        if errors:
            _fail(batch, errors)
            return
        batch.turn("in_progress", time.time())
        questions = course.mixed(found.questions)
        results = Results(batch)
        answered = await self._answer(batch, questions, course, results)
        ending = await self._ending(batch, course)
        async for question in sliced(questions[answered:]):
            results.give_up(question, ending)
        self._store(batch, results)
        self._counts["prompt_tokens"] += batch.prompt_tokens
        self._counts["completion_tokens"] += batch.completion_tokens
        batch.turn(ending, time.time())

    async def _read(self, batch: Batch) -> Input:
        if batch.input is None:
            return Input()
        terms = Terms(
            endpoint=batch.order.endpoint,
            max_lines=self._rules.max_lines,
            serves=lambda model: self._simulator.serves(batch.key, model),
            counts_tokens=self._rules.enqueued_tokens is not None,
        )
        return await read_input(batch.input.content, terms)

    async def _answer(
        self, batch: Batch, questions: Sequence[Question], course: Course, results: Results
    ) -> int:
        """Answer the first of the lines, steadily. Returns how many: fewer if it is cancelled."""
        wanted = questions[: course.answered(len(questions))]
        async for place, question in sliced(enumerate(wanted)):
            due_s = course.due_s((place + 1) / len(questions))
            if due_s - time.monotonic() > _PATIENCE_S:
                await _until(batch, due_s)
            if batch.cancelled.is_set():
                return place
            results.add(question, self._simulator.line(batch, question.body, self._moment()))
            self._counts["lines"] += 1
        return len(wanted)

    def _moment(self) -> Moment:
        return self._simulator.moment(time.monotonic(), time.time(), 0)

    async def _ending(self, batch: Batch, course: Course) -> str:
        """The state in which it ends, once the time for that has come."""
        if course.end and course.end.status == "cancelled":
            await _until(batch, course.at_s(ANSWERED))
            batch.cancel(time.time())
        batch.turn("finalizing", time.time())
        await _until(batch, course.at_s(1))
        if batch.cancelled.is_set():
            await asyncio.sleep((1 - ANSWERED) * course.latency_s)
            return "cancelled"
        return course.end.status if course.end else "completed"

    def _store(self, batch: Batch, results: Results) -> None:
        """Put the files that are not empty where the batch's owner finds them."""
        if results.output:
            batch.output_file_id = self._stored(batch, "output", results.output)
        if results.errors:
            batch.error_file_id = self._stored(batch, "error", results.errors)

    def _stored(self, batch: Batch, kind: str, content: bytearray) -> str:
        now = int(time.time())
        lasts_s = batch.order.output_lasts_s
        stored = StoredFile(
            id=self._files.new_id(),
            owner=batch.owner,
            purpose="batch_output",
            name=f"{batch.id}_{kind}.jsonl",
            content=content,
            created_at=now,
            expires_at=now + lasts_s if lasts_s else None,
            lines=line_count(content),
        )
        return self._files.put(stored).id


async def _until(batch: Batch, end_s: float) -> None:
    """Wait until a time, or until the batch is to be cancelled."""
    try:
        async with asyncio.timeout(max(0.0, end_s - time.monotonic())):
            await batch.cancelled.wait()
    except TimeoutError:
        pass


def _fail(batch: Batch, errors: list[InputError]) -> None:
    batch.errors = [msgspec.to_builtins(error) for error in errors]
    batch.turn("failed", time.time())
