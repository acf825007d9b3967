"""The workers of a pipeline: how many, of which kind, with which keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from gptflow.errors import UsageError
from gptflow.notify.lark import LarkBot
from gptflow.notify.sender import lark_sender
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.job import Job
from gptflow.wrapper.process_pipeline import run_in_processes
from gptflow.wrapper.thread_pipeline import run_in_threads

ConfigPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers that share the chunks of some work."""

    kind: Literal["threads", "processes"]
    count: int
    """The most of them; there is none without a chunk."""
    config_path: ConfigPath
    bot: LarkBot | None = None
    """Is told of start, end and crash, and what the wrappers have to tell."""

    def run(self, job: Job, chunks: Sequence[Any]) -> list[Any]:
        """What the workers gave for all chunks, one worker for each, in order.

        Raises:
            ConfigError: the configuration cannot be read, or is wrong.
            BaseException: what run_in_threads or run_in_processes raises.
        """
        wrapper = GPTWrapper(self.config_path, lark_hook=self.bot)
        run = run_in_threads if self.kind == "threads" else run_in_processes

        results: list[Any] = []

        def work() -> str:
            results.extend(result for part in run(job, wrapper, chunks) for result in part)
            return f"{len(results):,} {job.gives}"  # to Lark goes no word of a prompt or a reply

        work.__qualname__ = job.title or job.name  # what Lark is told of
        tell = lark_sender(self.bot, self._told(chunks)) if self.bot else None
        with closing(wrapper):
            (tell(work) if tell else work)()
        return results

    def _told(self, chunks: Sequence[Any]) -> str:
        items = sum(len(chunk) for chunk in chunks)
        kind = {"threads": "thread", "processes": "process"}[self.kind]
        workers = f"1 {kind}" if len(chunks) == 1 else f"{len(chunks)} {self.kind}"
        return f"{items:,} item{'s' if items != 1 else ''} on {workers}"


def bot_of(*hooks: str | LarkBot | None) -> LarkBot | None:
    """The bot for the first hook that is one; None if none is given.

    Raises:
        ValueError: it is not the URL of a hook. Without the frames that hold it.
    """
    hook = next((hook for hook in hooks if hook), None)
    if hook is None or isinstance(hook, LarkBot):
        return hook
    try:
        return LarkBot(hook)
    except ValueError as error:
        raise error.with_traceback(None) from None


def worker_count(**by_name: Any) -> int:
    """The number of workers, by whichever of its names it is given; the first is the main one.

    Raises:
        UsageError: it is missing, or no number of workers, or two different ones.
    """
    given = {name: count for name, count in by_name.items() if count is not None}
    if any(count != next(iter(given.values())) for count in given.values()):
        told = " and ".join(f"{name} is {count!r}" for name, count in given.items())
        raise UsageError(f"{told}: they mean the same", hint="give one of them")
    name = next(iter(given or by_name))
    count = given.get(name)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        found = "is missing" if count is None else f"is {count!r}"
        raise UsageError(f"{name} {found}", hint=f"give a whole number from 1 on: {name}=4")
    return count
