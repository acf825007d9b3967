"""What GPTWrapper does for whole lists: the pipelines, which build their wrappers themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gptflow.notify.lark import LarkBot

ConfigPath = str | os.PathLike[str]


class PipelineMethods:
    """The methods that are called on the class: `GPTWrapper.multi_thread_pipeline(...)`."""

    @staticmethod
    def multi_process_pipeline(  # noqa: PLR0913, PLR0917  # the original's signature
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
        """Has processes work on `data`; all their results, in the order of the data.

        Each process calls `func(pid, wrapper, data_chunk, *args, **kwargs) -> list` once: `pid`
        counts from 0, `wrapper` is a GPTWrapper that begins with key number `pid`, `data_chunk` a
        list. The chunks are contiguous and even; none is empty. `func` and all that it is given
        must pickle, so it is defined at the top of a file.

        Args:
            config_path: the file with the keys. Every process reads it for itself.
            process_num: how many processes; `processes_num` says the same.
            data: anything that can be iterated.
            func: does the work on a chunk.
            args: further positional arguments of `func`.
            kwargs: further named arguments of `func`. A `lark_hook` among them is taken out.
            lark_hook: is told of start, end and crash, and what the wrappers have to tell.
            processes_num: as `process_num`.
            **others: there are none; each is refused with a hint.

        Raises:
            UsageError: an argument does not fit; nothing was started. Or `func` gave no list.
            ConfigError: config_path cannot be read, or is wrong.
            WorkerFailed: a process died, or its exception cannot leave it.
            BaseException: what `func` has raised first, with the traceback in the process as its
                cause. The others were ended before, as they are on Ctrl-C.
        """
        from gptflow.wrapper.pipelines import multi_process_pipeline

        return multi_process_pipeline(
            config_path,
            process_num,
            data,
            func,
            args,
            kwargs,
            lark_hook,
            processes_num=processes_num,
            **others,
        )

    @staticmethod
    def multi_thread_pipeline(  # noqa: PLR0913, PLR0917  # the original's signature
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
        """Has threads work on `data`; all their results, in the order of the data.

        As multi_process_pipeline, in threads: `func` may be any function, and all wrappers share
        one set of connections and limits. When one thread fails, and on Ctrl-C, the next call of
        the others raises RunStopped.

        Args:
            config_path: the file with the keys.
            threads_num: how many threads; `thread_num` says the same.
            data: anything that can be iterated.
            func: does the work on a chunk.
            args: further positional arguments of `func`.
            kwargs: further named arguments of `func`. A `lark_hook` among them is taken out.
            lark_hook: is told of start, end and crash, and what the wrapper has to tell.
            thread_num: as `threads_num`.
            **others: there are none; each is refused with a hint.

        Raises:
            UsageError: an argument does not fit; nothing was started. Or `func` gave no list.
            ConfigError: config_path cannot be read, or is wrong.
            BaseException: what `func` has raised first.
        """
        from gptflow.wrapper.pipelines import multi_thread_pipeline

        return multi_thread_pipeline(
            config_path,
            threads_num,
            data,
            func,
            args,
            kwargs,
            lark_hook,
            thread_num=thread_num,
            **others,
        )

    @staticmethod
    def single_round_multi_thread(
        config_path: ConfigPath = "./config.json",
        engine: str | None = None,
        threads_num: int | None = None,
        system_prompts: Iterable[Any] | str | None = None,
        prompts: Iterable[Any] | None = None,
        fout: str | os.PathLike[str] = "",
        **kwargs: Any,
    ) -> list[Any]:
        """Asks one question for each prompt, from threads; the responses, in order.

        Each response is written at once to worker0_NAME, worker1_NAME ... beside `fout`. Called
        again after a crash, also with another number of threads, it asks only what is missing. At
        the end `fout` has one JSON object a line, in order, with `id` (the place in the list),
        `system_prompt`, `prompt` and `response`, and the workers' files are gone. Answers that are
        there to prompts that are not in the list are kept in .NAME.rest, for a later call.

        Args:
            config_path: the file with the keys.
            engine: the model. One that completes texts is asked in one text, the system prompt
                first.
            threads_num: how many threads, which is how many calls are under way at a time;
                `thread_num` says the same.
            system_prompts: one for each prompt, None for none; or one for all; or None.
            prompts: the questions.
            fout: the file of the answers.
            **kwargs: go to completions_with_backoff; a `lark_hook` is told of start, end and crash.

        Raises:
            UsageError: an argument does not fit; another call is writing `fout`; or its answers
                were asked with another model or other parameters. Nothing was sent.
            ConfigError: config_path cannot be read, or is wrong.
            PromptsFailed: some prompts have no answer; all others were asked. The next call asks
                only these.
            OutputError: a file cannot be written.
            RunStopped: no call can be answered any more.
        """
        from gptflow.wrapper.single_round import single_round_multi_thread

        return single_round_multi_thread(
            config_path, engine, threads_num, system_prompts, prompts, fout, **kwargs
        )

    @staticmethod
    def single_round_multi_process(
        config_path: ConfigPath = "./config.json",
        engine: str | None = None,
        processes_num: int | None = None,
        system_prompts: Iterable[Any] | str | None = None,
        prompts: Iterable[Any] | None = None,
        fout: str | os.PathLike[str] = "",
        **kwargs: Any,
    ) -> list[Any]:
        """Asks one question for each prompt, from processes; the responses, in order.

        As single_round_multi_thread, with `processes_num` (or `process_num`) processes, each with
        one call at a time.

        Raises:
            WorkerFailed: a process died. What it was answered is kept.
            GptflowError: as single_round_multi_thread.
        """
        from gptflow.wrapper.single_round import single_round_multi_process

        return single_round_multi_process(
            config_path, engine, processes_num, system_prompts, prompts, fout, **kwargs
        )
