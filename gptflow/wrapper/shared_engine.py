"""The engine behind a wrapper: one in each process, opened with the first call."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

from gptflow.engine import wire
from gptflow.engine.config import Config, config_from_environment, load_config
from gptflow.engine.engine import Engine
from gptflow.engine.events import Event
from gptflow.errors import ConfigError, GptflowError, RunStopped, UsageError
from gptflow.notify.messenger import Messenger
from gptflow.notify.quote import quoted
from gptflow.records import Reply
from gptflow.wrapper.news import news_of
from gptflow.wrapper.portal import Portal
from gptflow.wrapper.portal_call import PortalClosed
from gptflow.wrapper.question import Question
from gptflow.wrapper.settings import DEFAULT_PATH, Settings

T = TypeVar("T")


class SharedEngine:
    """One engine for all threads and event loops of a process, and a new one after a fork.

    When the last wrapper that uses it is gone, its thread and connections end.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the keys; nothing is started, and nothing sent.

        Raises:
            ConfigError: there is no configuration, or it is wrong.
        """
        self.settings = settings
        self.config = _read(settings)
        self._stopped: RunStopped | None = None
        self._portals = {os.getpid(): self._new_portal()}
        """By process. A parent's stays in its forked child, since freeing it would reach for
        threads that did not come along."""
        weakref.finalize(self, _let_go, self._portals).atexit = False

    def run(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        """Has `work` done with the engine, and waits for it.

        Raises:
            UsageError: the wrapper was closed, or a text cannot be sent.
        """
        self._check_stopped()
        try:
            return self._portal().run(work)
        except PortalClosed:
            raise _closed() from None
        except UnicodeEncodeError:
            raise _unwritable() from None

    async def arun(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        """As `run`, in any event loop."""
        self._check_stopped()
        try:
            return await self._portal().arun(work)
        except PortalClosed:
            raise _closed() from None
        except UnicodeEncodeError:
            raise _unwritable() from None

    def key_name(self, index: int) -> str:
        """The name of the key at a place, which wraps around. Raises UsageError for no place."""
        if not isinstance(index, int):
            raise UsageError(f"start_index cannot be {index!r}", hint="give a place, from 0 on")
        return self.config.keys[index % len(self.config.keys)].name

    def texts(self, question: Question, reply: Reply) -> str | list[str]:
        """The answer in the form in which it was asked for.

        Raises:
            GptflowError: the texts cannot be told apart by their prompts.
        """
        if not question.is_list:
            return reply.text
        texts = wire.texts(reply.body)
        prompts = question.call.params.get("prompt")
        if isinstance(prompts, list) and len(texts) % len(prompts):
            raise GptflowError(f"{len(texts):,} texts came for {len(prompts):,} prompts")
        return texts

    def stop(self, reason: RunStopped) -> None:
        """Lets every call that waits, and every later one, raise `reason`, in this process.

        The later ones do so whatever is raised here.
        """

        async def stop(engine: Engine) -> None:
            engine.stop(reason)

        try:
            self.run(stop)
        finally:
            self._stopped = reason

    def close(self) -> None:
        """Cancels what is in flight in this process, and ends the thread."""
        self._portal().close()

    def _check_stopped(self) -> None:
        if self._stopped:
            raise self._stopped.again()

    def _portal(self) -> Portal[Engine]:
        pid = os.getpid()
        # Two threads may come here at once: one of their portals is kept, the other never starts.
        return self._portals.get(pid) or self._portals.setdefault(pid, self._new_portal())

    def _new_portal(self) -> Portal[Engine]:
        return Portal(partial(_open, self.config, self.settings))


def _read(settings: Settings) -> Config:
    path = settings.config_path
    config = load_config(path) if path else config_from_environment(os.environ)
    if config is None:
        raise ConfigError(
            f"there is no {DEFAULT_PATH} here, and no OPENAI_API_KEY in the environment",
            hint='write {"key_list": [{"api_key": "..."}]} into it, or give config_path=',
        )
    return config


def _open(config: Config, settings: Settings) -> AbstractAsyncContextManager[Engine]:
    messenger = Messenger(settings.bot) if settings.bot else None
    return Engine(
        config,
        strategy=settings.strategy,
        attempts=settings.attempts,
        timeout_s=settings.timeout_s,
        key_wait_s=settings.key_wait_s,
        base_wait_s=settings.base_wait_s,
        on_event=partial(_tell, messenger, config.origin),
    )


def _tell(messenger: Messenger | None, origin: str, event: Event) -> None:
    news = news_of(event)
    if news:
        logging.getLogger("gptflow").warning(news)
        if messenger:
            messenger.post(f"gptflow, {origin}: {quoted(news)}")


def _let_go(portals: dict[int, Portal[Engine]]) -> None:
    for portal in list(portals.values()):
        portal.let_go()


def _closed() -> UsageError:
    return UsageError("the wrapper is closed", hint="build a new GPTWrapper")


def _unwritable() -> UsageError:
    return UsageError(
        "a text holds half of a surrogate pair, which UTF-8 cannot carry",
        hint="text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace') mends it",
    )
