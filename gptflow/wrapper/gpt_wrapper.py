"""GPTWrapper: every key of a configuration behind one call, without a spec."""

from __future__ import annotations

import os
import weakref
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptflow.records import Call, Reply
from gptflow.wrapper.portal import Portal

if TYPE_CHECKING:
    from gptflow.engine.engine import Engine


class GPTWrapper:
    """All keys of a configuration behind one call that waits, retries and changes keys."""

    def __init__(
        self,
        config_path: str | os.PathLike[str] = "./config.json",
        base_wait_time: float = 30,
        lark_hook: str | None = None,
        *,
        start_index: int | None = None,
    ) -> None:
        from gptflow.engine.config import load_config

        self._config_path = Path(config_path).absolute()
        self._base_wait_s = base_wait_time
        self._config = load_config(self._config_path)
        self._start_index = start_index
        self._portal = Portal(partial(_engine, self._config))
        weakref.finalize(self, self._portal.let_go).atexit = False

    def completions_with_backoff(
        self,
        engine: str | None = None,
        messages: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The text of the model's reply."""
        return self.complete(engine, messages, **kwargs).text

    async def acompletions_with_backoff(
        self, engine: str | None = None, messages: Any = None, **kwargs: Any
    ) -> Any:
        return (await self.acomplete(engine, messages, **kwargs)).text

    def complete(self, engine: str | None = None, messages: Any = None, **kwargs: Any) -> Reply:
        call = Call(b"", "", str(engine), messages, kwargs)
        return self._portal.run(lambda service: service.complete(call))

    async def acomplete(
        self, engine: str | None = None, messages: Any = None, **kwargs: Any
    ) -> Reply:
        call = Call(b"", "", str(engine), messages, kwargs)
        return await self._portal.arun(lambda service: service.complete(call))

    def close(self) -> None:
        self._portal.close()

    @staticmethod
    def multi_process_pipeline(*args: Any, **kwargs: Any) -> list[Any]:
        from gptflow.wrapper import pipelines

        return pipelines.multi_process_pipeline(*args, **kwargs)


def _engine(config: Any) -> AbstractAsyncContextManager[Engine]:
    from gptflow.engine.engine import Engine

    return Engine(config)
