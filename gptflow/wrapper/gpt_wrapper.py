"""GPTWrapper: all keys of a configuration behind one call, without a spec."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from multiprocessing import parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from gptflow.engine.secret import Secret
from gptflow.errors import RunStopped, UsageError
from gptflow.notify.lark import LarkBot
from gptflow.records import Reply
from gptflow.wrapper.loading import shared_engine
from gptflow.wrapper.pipeline_methods import PipelineMethods
from gptflow.wrapper.question import Question, question
from gptflow.wrapper.settings import DEFAULT_PATH, Settings


class GPTWrapper(PipelineMethods):
    """All keys of a configuration behind one call, which waits, retries and changes keys itself.

    Its methods may be called from any thread and any event loop, at the same time and inside of a
    notebook: all calls share one engine and its connections. It pickles, and survives a fork; the
    other process reads the keys again, and has an engine of its own. The engine starts with the
    first call; it ends with `close`, with the wrapper, or with the interpreter.
    """

    def __init__(  # noqa: PLR0913  # each has a default that fits most
        self,
        config_path: str | os.PathLike[str] = DEFAULT_PATH,
        base_wait_time: float = 30,
        lark_hook: str | LarkBot | None = None,
        *,
        start_index: int | None = None,
        strategy: Literal["sequential", "spread"] = "sequential",
        attempts: int = 8,
        timeout_s: float = 120.0,
        key_wait_s: float | None = None,
    ) -> None:
        """Read the keys; nothing is sent yet.

        Args:
            config_path: the file with the keys. Where the default does not exist, OPENAI_API_KEY
                stands in, with OPENAI_BASE_URL and OPENAI_ORG_ID.
            base_wait_time: seconds. When all keys are spent calls wait for a change of the file;
                that is told at once, and after 1, 2, 4 ... times this.
            lark_hook: where to tell it: a webhook's URL, or a LarkBot, for one that signs.
            start_index: the place in key_list, from 0, of the key to prefer as long as it has
                room, in place of the file's key_index. It wraps around.
            strategy: "sequential" uses a key until it is spent or rests; "spread" uses all of them
                at once, each as far as it has room.
            attempts: how often a call may fail for a passing reason. Rate limits do not count.
            timeout_s: deadline for one attempt, from connecting to the last byte.
            key_wait_s: the longest wait for a usable key when all are spent; None for as long as it
                takes, 0 to raise at once.

        Raises:
            ConfigError: there is no configuration, or it is wrong.
            UsageError: another argument does not fit.
            ValueError: lark_hook is not the URL of a hook.
        """
        if isinstance(lark_hook, str):
            # First out of this frame's names: a report of an error may show what they hold.
            hidden, lark_hook = Secret(lark_hook), None
            lark_hook = _bot(hidden)
        path = _path(config_path).absolute()
        is_default = os.fspath(config_path) == DEFAULT_PATH
        self._shared = shared_engine(
            Settings(
                config_path=None if is_default and not path.exists() else path,
                base_wait_s=base_wait_time,
                bot=lark_hook,
                strategy=strategy,
                attempts=attempts,
                timeout_s=timeout_s,
                key_wait_s=key_wait_s,
            )
        )
        self._prefer = None if start_index is None else self._shared.key_name(start_index)
        if parent_process() is None:  # the workers of a pool need not say it, too
            for note in self._shared.config.notes:
                _say_once(note)

    def completions_with_backoff(  # noqa: PLR0913, PLR0917  # the original's signature
        self,
        engine: str | None = None,
        messages: str | Sequence[str] | Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """The text of the model's reply; a list of texts for n > 1, or for a list of prompts.

        Only what is given is sent; None means not given. When all keys are spent it waits, and
        goes on as soon as the file has a usable one. Ctrl-C ends it at once.

        Args:
            engine: the model. `model=` is another word for it.
            messages: the conversation, as a list of dicts with role and content; a string is one
                message of the user. For a completion model (davinci-002, babbage-002,
                gpt-3.5-turbo-instruct), or with api="completions": a string, or a list of strings
                for as many texts in their order. `prompt=` is another word for it then.
            temperature: as the API has it, like the others.
            max_tokens: the most tokens of the reply.
            top_p: nucleus sampling.
            frequency_penalty: against words that come often.
            presence_penalty: against words that came at all.
            **kwargs: any other parameter of the API; `extra_body`, a dict that is merged into the
                request; `timeout`, seconds for one attempt; `api`, "chat" or "completions", where
                the model's name does not tell.

        Returns:
            str, or list[str]. Text that is missing, as beside tool calls, is "": see `complete`.

        Raises:
            UsageError: the call cannot be sent like this; nothing was sent.
            openai.OpenAIError: there is no reply, and will be none: RateLimitError,
                BadRequestError, APITimeoutError ... as the openai package has them.
        """
        asked = question(
            engine,
            messages,
            {
                "temperature": temperature,
                "max_tokens": max_tokens,
                "top_p": top_p,
                "frequency_penalty": frequency_penalty,
                "presence_penalty": presence_penalty,
                **kwargs,
            },
        )
        return self._shared.texts(asked, self._ask(asked))

    async def acompletions_with_backoff(
        self,
        engine: str | None = None,
        messages: str | Sequence[str] | Sequence[Mapping[str, Any]] | None = None,
        **parameters: Any,
    ) -> Any:
        """As `completions_with_backoff`, in an event loop: any, and several at the same time."""
        asked = question(engine, messages, parameters)
        return self._shared.texts(asked, await self._aask(asked))

    def complete(
        self,
        engine: str | None = None,
        messages: str | Sequence[str] | Sequence[Mapping[str, Any]] | None = None,
        **parameters: Any,
    ) -> Reply:
        """As `completions_with_backoff`, but gives the whole reply.

        Returns:
            text (the first, where there are several), finish_reason, usage, model, key_name,
            attempts, latency_s, and body: the response as it came, as JSON in bytes.
        """
        return self._ask(question(engine, messages, parameters))

    async def acomplete(
        self,
        engine: str | None = None,
        messages: str | Sequence[str] | Sequence[Mapping[str, Any]] | None = None,
        **parameters: Any,
    ) -> Reply:
        """As `complete`, in an event loop: any, and several at the same time."""
        return await self._aask(question(engine, messages, parameters))

    def answer_to(self, asked: Question) -> Any:
        """As `completions_with_backoff`, for a question that is one already.

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: no call can be answered any more.
        """
        call, prefer = asked.call, self._prefer
        reply = self._shared.run(lambda engine: engine.ask(call, prefer=prefer))
        return self._shared.texts(asked, reply)

    def starting_at(self, index: int) -> Self:
        """A wrapper over the same engine that prefers the key at a place, as long as it has room.

        Places count from 0, and wrap around. Closing either closes both.
        """
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | {"_prefer": self._shared.key_name(index)}
        return other

    def stop(self, reason: RunStopped) -> None:
        """Lets every call that waits, and every later one, raise `reason`, in this process.

        Calls that are on the wire come back first: they may be paid already.
        """
        self._shared.stop(reason)

    def close(self) -> None:
        """Cancels the calls in flight, closes the connections, and waits until that is done.

        There is no need to: what is left open ends with the wrapper, or with the interpreter.
        """
        self._shared.close()

    def __repr__(self) -> str:
        shared = getattr(self, "_shared", None)  # there is none while it is being built
        if shared is None:
            return "GPTWrapper()"
        count = len(shared.config.keys)
        return f"GPTWrapper({shared.config.origin}, {count} {'key' if count == 1 else 'keys'})"

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self._shared.settings, "prefer": self._prefer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = shared_engine(state["settings"])
        self._prefer = state["prefer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, asked: Question) -> Reply:
        call, prefer = asked.call, self._prefer
        return self._shared.run(lambda engine: engine.complete(call, prefer=prefer))

    async def _aask(self, asked: Question) -> Reply:
        call, prefer = asked.call, self._prefer
        return await self._shared.arun(lambda engine: engine.complete(call, prefer=prefer))


def _path(config_path: object) -> Path:
    """The file with the keys. Raises UsageError for what is no path."""
    if isinstance(config_path, str | os.PathLike):
        return Path(config_path)
    raise UsageError(
        f"config_path cannot be {config_path!r:.80}",
        hint=f'give the path of the file with the keys, or leave it out for "{DEFAULT_PATH}"',
    )


def _bot(hook: Secret) -> LarkBot | None:
    """The bot for a hook; None for an empty one.

    Raises:
        ValueError: it is none. Without the frames it came by, which hold the URL.
    """
    try:
        return LarkBot(hook.reveal()) if hook.reveal() else None
    except ValueError as error:
        raise error.with_traceback(None) from None


@functools.cache
def _say_once(note: str) -> None:
    logging.getLogger("gptflow").warning(note)
