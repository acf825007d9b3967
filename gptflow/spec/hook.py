"""Hooks: the functions of a person's own Python that a spec names, and where it names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from pydantic import AfterValidator, Field

from gptflow.spec.origin import KeyPath

if TYPE_CHECKING:
    from gptflow.spec.model import Spec

Role = Literal["transform", "extractor", "step"]
"""What a hook stands in for: it says what the hook is called with, and what it gives."""

_NAME = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"


def _refuse(message: str, hint: str) -> NoReturn:
    wrong = ValueError(message)
    wrong.add_note(hint)
    raise wrong


def _named(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        _refuse(f"'{text}' names no function", "write module:function, as in hooks:clean")
    return text


HookName = Annotated[
    str,
    AfterValidator(_named),
    Field(
        description="A function of yours, module:function. Needs --allow-python.",
        examples=["hooks:clean"],
        json_schema_extra={"pattern": _NAME},
    ),
]


@dataclass(frozen=True, slots=True)
class HookAt:
    """A hook, as a spec names it."""

    name: str
    role: Role
    path: KeyPath
    """The key whose value is the name."""


_OF_PROMPTS = ("system", "examples", "model", "extract", "structured", "on_invalid")
"""What a step says of its question; one that asks none by itself has no use for it."""


def refuse_mixture(given: AbstractSet[str]) -> None:
    """Sees to it that a step has either a prompt or a function, and what goes with it.

    Args:
        given: the keys to which the step gives a value.

    Raises:
        ValueError: it has not; its note is the hint.
    """
    has_prompt, is_python = "prompt" in given, "python" in given
    if has_prompt and is_python:
        _refuse("a step has either a prompt or python", "make two steps of it")
    if not has_prompt and not is_python:
        hint = "add a line such as `prompt: 'Label this review: {{ text }}'`"
        _refuse("the key 'prompt' is missing", hint)
    if is_python and "fields" not in given:
        _refuse("the key 'fields' is missing", "name what the function gives: `fields: [score]`")
    if has_prompt and "fields" in given:
        _refuse("`fields` goes with `python`", "the fields of a prompt stand under `extract`")
    of_prompts = [key for key in _OF_PROMPTS if key in given]
    if is_python and of_prompts:
        _refuse(f"`{of_prompts[0]}` does not go with `python`", "remove it: the function decides")


def hooks_in(spec: Spec) -> Iterator[HookAt]:
    """Every hook that a spec names, in the order of its parts."""
    if spec.source.transform is not None:
        yield HookAt(spec.source.transform, "transform", ("source", "transform"))
    for index, step in enumerate(spec.steps):
        if step.python is not None:
            yield HookAt(step.python, "step", ("steps", index, "python"))
        for name, extractor in step.extract.items():
            python = getattr(extractor, "python", None)
            if python is not None:
                yield HookAt(python, "extractor", ("steps", index, "extract", name, "python"))
