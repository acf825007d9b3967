"""Few-shot examples that stand in a file of their own: one JSON object a line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gptflow.pipeline.texts import Text, line_text, place_in_line
from gptflow.spec.problems import Problem

FORM = '{"user": "...", "assistant": "..."}'


class ExampleLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file; both are templates."""

    user: str
    assistant: str


_decode = msgspec.json.Decoder(ExampleLine).decode


def numbered(index: int, what: str) -> str:
    """What the example at an index, from 0, is called in messages."""
    return f"example {index + 1} {what}"


def read_examples(
    path: Path, content: str, what: str
) -> tuple[list[tuple[str, Text]], list[Problem]]:
    """The turns in the file, as roles and texts, and the lines that are none; empty ones count not.

    `what` names the step in messages: "of step 'label'".
    """
    texts: list[tuple[str, Text]] = []
    problems: list[Problem] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            example = _decode(line)
        except msgspec.MsgspecError as error:
            place = place_in_line(path, number, line)
            message = f"this is no example: {_reason(error)} (examples {what})"
            problems.append(Problem(message, place, f"a line reads {FORM}"))
            continue
        named = numbered(len(texts) // 2, what)
        texts.append(("user", line_text(path, number, line, example.user, named)))
        texts.append(("assistant", line_text(path, number, line, example.assistant, named)))
    return texts, problems


def _reason(error: msgspec.MsgspecError) -> str:
    message = str(error)
    return message if message.startswith("JSON") else f"{message[0].lower()}{message[1:]}"
