"""What each worker of a single round does: ask, and write down each answer before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gptflow.errors import CallFailed, UsageError
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.round_file import AnswerLog, Item, RoundFiles


@dataclass(frozen=True, slots=True)
class Round:
    """How the questions of a round are asked, and where the answers go."""

    fout: Path
    engine: str | None
    is_completion: bool
    """Whether the model completes a text, and has no messages."""
    params: dict[str, Any]
    """All else for completions_with_backoff."""

    def messages(self, item: Item) -> Any:
        """What is sent for an item."""
        if self.is_completion:
            if not item.system_prompt:
                return item.prompt
            return f"[System Prompt]: {item.system_prompt}\n[Prompt]: {item.prompt}"
        turns = [{"role": "user", "content": item.prompt}]
        if item.system_prompt:
            turns.insert(0, {"role": "system", "content": item.system_prompt})
        return turns


class Failed(NamedTuple):
    """An item without an answer."""

    id: int
    reason: str


def ask_each(
    worker: int, wrapper: GPTWrapper, items: Sequence[Item], round_: Round
) -> list[Failed]:
    """Asks the items one after the other; those that have no answer, and will have none.

    Raises:
        RunStopped: no call can be answered any more.
        OutputError: an answer cannot be written.
    """
    failed: list[Failed] = []
    with AnswerLog(RoundFiles(round_.fout).of_worker(worker)) as log:
        for item in items:
            try:
                response = wrapper.completions_with_backoff(
                    round_.engine, round_.messages(item), **round_.params
                )
            except _call_errors() as error:
                failed.append(Failed(item.id, f"{type(error).__name__}: {error}"))
            else:
                log.add(item, response)
    return failed


def _call_errors() -> tuple[type[Exception], ...]:
    """What says that this call has no answer, though another may. Read only when one is raised."""
    import openai

    # What no call can have was refused before; this prompt may hold what cannot be sent.
    return CallFailed, openai.OpenAIError, UsageError
