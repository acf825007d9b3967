"""The lines of a single round's files, and which question each of them answers.

A line is a JSON object with `id`, `system_prompt`, `prompt` and `response`; in a worker's file also
with `nth`, where the same question was asked before in the same list. Its place does not tell what
it answers: lists grow at both ends. The question does, and `nth`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Asked(NamedTuple):
    """What an answer is an answer to, and how it is found again."""

    digest: bytes
    """Of system prompt and prompt."""
    nth: int
    """How many questions with the same digest stand before it in its list."""


class Item(NamedTuple):
    """One question of a round."""

    id: int
    """Its place in the list of prompts, from 0."""
    system_prompt: Any
    prompt: Any
    nth: int = 0
    """As in Asked."""

    @property
    def asked(self) -> Asked:
        """What its answer is found by."""
        return Asked(_digest(self.system_prompt, self.prompt), self.nth)


class Answer(NamedTuple):
    """An answer with the question that it answers."""

    item: Item
    response: Any


def numbered(questions: Iterable[tuple[Any, Any]]) -> list[Item]:
    """The items of a list of system prompts with their prompts."""
    seen: Counter[bytes] = Counter()
    items = []
    for place, (system_prompt, prompt) in enumerate(questions):
        digest = _digest(system_prompt, prompt)
        items.append(Item(place, system_prompt, prompt, seen[digest]))
        seen[digest] += 1
    return items


def line_of(item: Item, response: Any, *, counts_itself: bool) -> bytes:
    """A line with its end. `counts_itself`: whether the file has all that came before in order."""
    value = {"id": item.id, "system_prompt": item.system_prompt, "prompt": item.prompt}
    if item.nth and not counts_itself:
        value["nth"] = item.nth
    return _encoded({**value, "response": response}) + b"\n"


def answers_in(path: Path, *, counts_itself: bool) -> Iterator[Answer]:
    """The answers in a file, in its order; whatever else stands in it is passed over.

    A file that is not there has none.
    """
    seen: Counter[bytes] = Counter()
    for line in map(_decoded, _raw_lines(path)):
        if not isinstance(line, dict) or not {"prompt", "response"} <= line.keys():
            continue
        system_prompt, prompt = line.get("system_prompt"), line["prompt"]
        place, nth = line.get("id"), line.get("nth", 0)
        if counts_itself:
            digest = _digest(system_prompt, prompt)
            nth = seen[digest]
            seen[digest] += 1
        if type(place) is int and type(nth) is int:
            yield Answer(Item(place, system_prompt, prompt, nth), line["response"])


def is_just(path: Path, items: Sequence[Item]) -> bool:
    """Whether a file has the answers to these items in their order, and nothing else."""
    answered = [answer.item for answer in answers_in(path, counts_itself=True)]
    return answered == list(items) and sum(1 for _ in _raw_lines(path)) == len(items)


def _digest(system_prompt: Any, prompt: Any) -> bytes:
    told = _encoded([system_prompt, prompt], is_sorted=True)
    return hashlib.blake2b(told, digest_size=16).digest()


def _encoded(value: Any, *, is_sorted: bool = False) -> bytes:
    try:
        return msgspec.json.encode(value, order="sorted" if is_sorted else None)
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write as \ud800
        return json.dumps(value, separators=(",", ":"), sort_keys=is_sorted).encode()


def _raw_lines(path: Path) -> Iterator[bytes]:
    with suppress(FileNotFoundError), path.open("rb") as stream:
        yield from (raw for raw in stream if raw.strip())


def _decoded(raw: bytes) -> Any:
    """What a line holds; None if it is no JSON."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        with suppress(ValueError, RecursionError):  # a lone surrogate is fine for json
            return json.loads(raw)
        return None
