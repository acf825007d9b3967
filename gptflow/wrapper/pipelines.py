"""The pipelines of GPTWrapper: data in chunks, a function for each, results in the data's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gptflow.errors import UsageError
from gptflow.wrapper.chunks import chunks_of
from gptflow.wrapper.crew import ConfigPath, Crew, worker_count
from gptflow.wrapper.job import Job
from gptflow.wrapper.main_module import leave_if_imported_by_worker


def multi_process_pipeline(  # noqa: PLR0913, PLR0917  # as the original has them
    config_path: ConfigPath = "./config.json",
    process_num: int | None = None,
    data: Any = None,
    func: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    lark_hook: str | None = None,
    *,
    processes_num: int | None = None,
) -> list[Any]:
    """Has processes work on `data`; all their results, in the order of the data.

    Each process calls `func(pid, wrapper, data_chunk, *args, **kwargs) -> list` once: `pid` counts
    from 0, `wrapper` is a GPTWrapper that begins with key number `pid`, `data_chunk` a list. The
    chunks are contiguous and even; none is empty. `func` and all that it is given must pickle, so
    it is defined at the top of a file. Processes are started by `spawn`, or by `forkserver` if the
    program has chosen that (multiprocessing.set_start_method).

    Args:
        config_path: the config.json. Every process reads it for itself.
        process_num: how many processes; `processes_num` says the same.
        data: anything that can be iterated.
        func: does the work on a chunk.
        args: further positional arguments of `func`.
        kwargs: further named arguments of `func`. A `lark_hook` among them is taken out.
        lark_hook: is told of start, end and crash, and what the wrappers have to tell.
        processes_num: as `process_num`.

    Raises:
        UsageError: an argument does not fit; nothing was started. Or `func` gave no list.
        ConfigError: config_path cannot be read, or is wrong.
        WorkerFailed: a process died, or its exception cannot leave it.
        BaseException: what `func` has raised first, with the traceback in the process as its
            cause. The others were ended before, as they are on Ctrl-C.
    """
    leave_if_imported_by_worker()
    count = worker_count("process_num", process_num, processes_num)
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
    lark_hook: str | None = None,
    *,
    thread_num: int | None = None,
) -> list[Any]:
    """Has threads work on `data`; all their results, in the order of the data.

    As multi_process_pipeline, in threads: `func` may be any function, and all wrappers share one
    set of connections and limits. When one thread fails, and on Ctrl-C, the next call of the others
    raises RunStopped; calls on the wire come back first, for up to thread_pipeline.DRAIN_S.

    Args:
        config_path: the config.json.
        threads_num: how many threads; `thread_num` says the same.
        data: anything that can be iterated.
        func: does the work on a chunk.
        args: further positional arguments of `func`.
        kwargs: further named arguments of `func`. A `lark_hook` among them is taken out.
        lark_hook: is told of start, end and crash, and what the wrapper has to tell.
        thread_num: as `threads_num`.

    Raises:
        UsageError: an argument does not fit; nothing was started. Or `func` gave no list.
        ConfigError: config_path cannot be read, or is wrong.
        BaseException: what `func` has raised first.
    """
    count = worker_count("threads_num", threads_num, thread_num)
    named, lark_hook = _without_hook(kwargs, lark_hook)
    job = _job(func, args, named)
    return Crew("threads", count, config_path, lark_hook).run(job, chunks_of(data, count))


def _job(func: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Job:
    if not callable(func):
        raise UsageError(
            f"func is {func!r}, not a function",
            hint="give the function that works on a chunk: func(pid, wrapper, data_chunk)",
        )
    return Job(func, tuple(args), dict(kwargs))


def _without_hook(
    kwargs: Mapping[str, Any] | None, lark_hook: str | None
) -> tuple[dict[str, Any], str | None]:
    """The arguments of `func`, and the hook, which may stand among them."""
    named = dict(kwargs or {})
    in_kwargs = named.pop("lark_hook", None)
    return named, lark_hook or in_kwargs
