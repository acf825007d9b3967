"""The Files and Batch APIs of one key, by the openai package.

https://platform.openai.com/docs/guides/batch. Nothing here tries again: `patience` does. The
requests go as those of the other clients do: with our headers alone, through the proxies of the
environment, with its certificates, and nowhere else than to the key's host.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import openai

from gptflow.engine import faults
from gptflow.engine.attempt import Response, TransportFault
from gptflow.engine.batch_state import ApiRefused, BatchState, ValidationError, judged
from gptflow.engine.config import KeyEntry
from gptflow.engine.exceptions import http_library
from gptflow.engine.forked_client import fault_of, open_connections
from gptflow.engine.proxies import Proxy
from gptflow.engine.route import Route, Routes

T = TypeVar("T")

TAG = "gptflow"
"""The name in a batch's metadata under which our own name for it stands."""
WINDOW: Any = "24h"
"""The only one there is: https://platform.openai.com/docs/api-reference/batch/create."""
_CHUNK = 1 << 16
_PAGE = 100
_CONNECTIONS = 8
_CONFLICT = 409
_KEPT = ("content-type", "content-length", "transfer-encoding", "host", "accept-encoding")
"""The headers of a request that are the HTTP library's."""


class BatchApi:
    """Uploads files, makes batches of them, looks after these and fetches what came of them.

    Every method raises ApiRefused where there is no good answer.
    """

    def __init__(self, key: KeyEntry, *, timeout_s: float) -> None:
        """`timeout_s`: for each request without a file, and for each silence of one with a file."""
        self.key = key
        self._timeout_s = timeout_s
        self._routes = Routes(timeout_s, os.environ)
        self._http: Any = None
        self._openai: Any = None

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = self._openai = None

    async def upload(self, path: Path, name: str) -> str:
        """Uploads a file for a batch under a name; its id."""

        async def send(api: Any) -> str:
            with path.open("rb") as file:
                uploaded = await api.files.create(file=(name, file), purpose="batch")
            return _text(uploaded.id)

        return await self._asked("files", send, whole=False)

    async def create(self, file_id: str, endpoint: str, tag: str) -> BatchState:
        """Makes a batch of an uploaded file, with `tag` in its metadata."""
        asked: Any = f"/v1/{endpoint}"

        async def send(api: Any) -> BatchState:
            return _state(
                await api.batches.create(
                    completion_window=WINDOW,
                    endpoint=asked,
                    input_file_id=file_id,
                    metadata={TAG: tag},
                )
            )

        return await self._asked("batches", send)

    async def find(self, tag: str, since: float) -> list[BatchState]:
        """The batches with this tag, made at `since` (seconds since 1970) or later."""

        async def look(api: Any) -> list[BatchState]:
            found = []
            async for batch in api.batches.list(limit=_PAGE):
                if (batch.metadata or {}).get(TAG) == tag:
                    found.append(_state(batch))
                if isinstance(batch.created_at, int) and batch.created_at < since:
                    break  # they come with the newest first
            return found

        return await self._asked("batches", look, whole=False)

    async def probe(self) -> None:
        """Whether the key may see batches at all."""

        async def look(api: Any) -> None:
            await api.batches.list(limit=1)

        await self._asked("batches", look)

    async def look(self, remote_id: str) -> BatchState:
        """How a batch is."""

        async def look(api: Any) -> BatchState:
            return _state(await api.batches.retrieve(remote_id))

        return await self._asked("batches", look)

    async def cancel(self, remote_id: str) -> BatchState:
        """Asks for the end of a batch, which takes up to ten minutes; how it is meanwhile.

        One that has ended by now, or is just being cancelled, is no error.
        """

        async def cancel(api: Any) -> BatchState:
            return _state(await api.batches.cancel(remote_id))

        try:
            return await self._asked("batches", cancel)
        except ApiRefused as refused:
            if refused.verdict.status != _CONFLICT:
                raise
        return await self.look(remote_id)

    async def download(self, file_id: str, path: Path) -> None:
        """Writes the content of a file to a place on this disk."""

        async def receive(api: Any) -> None:
            streaming = api.files.with_streaming_response.content(file_id)
            async with streaming as response:
                with path.open("wb") as file:
                    async for chunk in response.iter_bytes(_CHUNK):
                        file.write(chunk)

        await self._asked("files", receive, whole=False)

    async def _asked(
        self, path: str, ask: Callable[[Any], Awaitable[T]], *, whole: bool = True
    ) -> T:
        """What comes of asking. `whole`: in `timeout_s` altogether."""
        route = self._routes.find(self.key, path, json_body=False)
        if isinstance(route, TransportFault):
            raise ApiRefused(judged(self.key, route))
        api = self._api(route)
        try:
            async with _outcomes(route), asyncio.timeout(route.whole_s if whole else None):
                return await ask(api)
        except _Outcome as outcome:
            raise ApiRefused(judged(self.key, outcome.value)) from None

    def _api(self, route: Route) -> Any:
        if self._openai is None:
            self._http = _connections(route.proxy, self._timeout_s, route.connect_s)
            self._http.event_hooks = {"request": [_with_headers(dict(route.headers))]}
            self._openai = openai.AsyncOpenAI(
                api_key=self.key.api_key.reveal(),
                base_url=self.key.base_url,
                max_retries=0,
                http_client=self._http,
                timeout=self._http.timeout,
            )
        return self._openai


class _Outcome(Exception):
    """An attempt without a good answer."""

    def __init__(self, value: Response | TransportFault) -> None:
        super().__init__()
        self.value = value


@asynccontextmanager
async def _outcomes(route: Route) -> AsyncIterator[None]:
    """Raises _Outcome for all that openai and its HTTP library raise inside."""
    try:
        yield
    except openai.APIStatusError as error:
        response = error.response
        raise _Outcome(Response(response.status_code, response.headers, response.content)) from None
    except (openai.APITimeoutError, TimeoutError):
        raise _Outcome(faults.late(route, began=False, took_s=0.0)) from None
    except openai.APIConnectionError as error:
        raise _Outcome(fault_of(_cause(error), route)) from None
    except (openai.OpenAIError, http_library().HTTPError, ValueError, TypeError, AttributeError):
        # Of a body that is none of the API's: openai builds its types of whatever came.
        raise _Outcome(faults.broken("the answer is none of the Batch API's", route)) from None


def _cause(error: Exception) -> Exception:
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else error


def _connections(proxy: Proxy | None, timeout_s: float, connect_s: float) -> Any:
    http = http_library()
    limits = http.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    return open_connections(proxy, limits, http.Timeout(timeout_s, connect=connect_s))


def _with_headers(headers: Mapping[str, str]) -> Callable[[Any], Awaitable[None]]:
    """A hook that leaves a request no header of openai's, which reads some from the environment."""

    async def put(request: Any) -> None:
        for name in list(request.headers):
            if name.lower() not in _KEPT:
                del request.headers[name]
        request.headers.update(headers)

    return put


def _state(batch: Any) -> BatchState:
    """A batch as openai gives it, as far as it has the right types."""
    counts, errors = batch.request_counts, getattr(batch.errors, "data", None) or ()
    return BatchState(
        remote_id=_text(batch.id),
        status=_text(batch.status),
        output_file_id=batch.output_file_id or "",
        error_file_id=batch.error_file_id or "",
        errors=tuple(
            ValidationError(error.code or "", error.message or "", error.line) for error in errors
        ),
        created_at=batch.created_at if isinstance(batch.created_at, int) else 0,
        answered=(counts.completed + counts.failed) if counts else 0,
    )


def _text(value: object) -> str:
    """Raises TypeError for what is no text: openai does not look at types."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no text")
    return value
