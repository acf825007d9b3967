"""The pipelines of GPTWrapper: data in chunks, a function for each, results in the data's order.

What they promise their callers stands at the methods of `pipeline_methods`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gptflow.errors import UsageError
from gptflow.notify.lark import LarkBot
from gptflow.wrapper.chunks import chunks_of
from gptflow.wrapper.crew import ConfigPath, Crew, bot_of, worker_count
from gptflow.wrapper.job import Job
from gptflow.wrapper.main_module import leave_if_imported_by_worker


def multi_process_pipeline(  # noqa: PLR0913, PLR0917  # as the original has them
    config_path: ConfigPath = "./config.json",
    process_num: int | None = None,
    data: Any = None,
    func: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    lark_hook: str | LarkBot | None = None,
    *,
    processes_num: int | None = None,
    **others: Any,
) -> list[Any]:
    """GPTWrapper.multi_process_pipeline.

    Processes are started by `spawn`, or by `forkserver` if the program has chosen that.
    """
    leave_if_imported_by_worker()
    _refuse(others, ("process_num", "processes_num"))
    count = worker_count(process_num=process_num, processes_num=processes_num)
    named, lark_hook = _without_hook(kwargs, lark_hook)
    job = _job(func, args, named)
    return Crew("processes", count, config_path, lark_hook).run(job, chunks_of(data, count))


def multi_thread_pipeline(  # noqa: PLR0913, PLR0917  # as the original has them
    config_path: ConfigPath = "./config.json",
    threads_num: int | None = None,
    data: Any = None,
    func: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    lark_hook: str | LarkBot | None = None,
    *,
    thread_num: int | None = None,
    **others: Any,
) -> list[Any]:
    """GPTWrapper.multi_thread_pipeline.

    When one thread fails, and on Ctrl-C, the next call of the others raises RunStopped; calls on
    the wire come back first, for up to thread_pipeline.DRAIN_S.
    """
    _refuse(others, ("threads_num", "thread_num"))
    count = worker_count(threads_num=threads_num, thread_num=thread_num)
    named, lark_hook = _without_hook(kwargs, lark_hook)
    job = _job(func, args, named)
    return Crew("threads", count, config_path, lark_hook).run(job, chunks_of(data, count))


def _refuse(others: Mapping[str, Any], counts: tuple[str, str]) -> None:
    """Raise UsageError for arguments that a pipeline does not have."""
    known = ["config_path", "data", "func", "args", "kwargs", "lark_hook", *counts]
    for name in others:
        near = difflib.get_close_matches(name, known, n=1)
        meant = [counts[0]] if name.endswith("_num") else near
        hint = f"did you mean {meant[0]!r}?" if meant else "what func gets by name goes into kwargs"
        raise UsageError(f"this pipeline has no argument {name!r}", hint=hint)


def _job(func: Callable[..., Any] | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Job:
    if not callable(func):
        raise UsageError(
            f"func is {func!r}, not a function",
            hint="give the function that works on a chunk: func(pid, wrapper, data_chunk)",
        )
    if isinstance(args, str | bytes) or not isinstance(args, Iterable):
        hint = "what func gets behind data_chunk, in brackets: args=(5,)"
        raise UsageError(f"args is one {type(args).__name__}, not a list", hint=hint)
    return Job(func, tuple(args), kwargs)


def _without_hook(
    kwargs: Mapping[str, Any] | None, lark_hook: str | LarkBot | None
) -> tuple[dict[str, Any], LarkBot | None]:
    """The arguments of `func`, and the bot for the hook, which may stand among them."""
    if not isinstance(kwargs, Mapping | None):
        hint = 'what func gets by name: kwargs={"name": value}'
        raise UsageError(f"kwargs is one {type(kwargs).__name__}, not a dict", hint=hint)
    named = dict(kwargs or {})
    return named, bot_of(lark_hook, named.pop("lark_hook", None))
