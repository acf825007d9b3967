"""One POST to a hook, of which nothing is left behind: no exception, no log line with its URL."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gptflow.notify.hook import Hook

MOST_ANSWER_BYTES = 4_096
_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_sending = threading.local()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a hook."""

    status: int
    content: bytes


def post(hook: Hook, body: bytes, timeout_s: float) -> Answer | str:
    """Sends a body; the answer, or in words why there is none.

    `timeout_s` bounds connecting, each wait for a byte, and the whole of the answer's body.
    """
    try:
        with _unlogged():
            return _tried(hook, body, timeout_s)
    except Exception as error:  # noqa: BLE001 (an import may fail; and no text with the URL goes on)
        return f"the request to {hook.host} failed ({type(error).__name__})"


def _tried(hook: Hook, body: bytes, timeout_s: float) -> Answer | str:
    import requests

    try:
        return _posted(hook, body, timeout_s)
    except requests.exceptions.ProxyError:
        return f"the proxy on the way to {hook.host} cannot be reached"
    except requests.exceptions.SSLError:
        return f"the TLS certificate of {hook.host} is not accepted"
    except requests.exceptions.Timeout:
        return f"{hook.host} did not answer within {timeout_s:g} s"
    except requests.exceptions.ConnectionError:
        return f"{hook.host} cannot be reached, or closed the connection"


def _posted(hook: Hook, body: bytes, timeout_s: float) -> Answer | str:
    import requests

    ends_s = time.monotonic() + timeout_s
    with requests.post(
        hook.url,
        data=body,
        headers={"Content-Type": "application/json; charset=utf-8"},
        timeout=timeout_s,
        allow_redirects=False,
        stream=True,
    ) as response:
        content = bytearray()
        for byte in response.iter_content(1):  # a larger chunk would be waited for until it is full
            content += byte
            if len(content) > MOST_ANSWER_BYTES:
                break
            if time.monotonic() > ends_s:
                return f"{hook.host} did not answer within {timeout_s:g} s"
        return Answer(response.status_code, bytes(content))


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps urllib3 from logging this thread's requests: its debug lines have the whole URL."""
    for name in _LOGGERS:
        logging.getLogger(f"urllib3.{name}").addFilter(_is_loggable)
    _sending.now = True
    try:
        yield
    finally:
        _sending.now = False


def _is_loggable(_: logging.LogRecord) -> bool:
    return not getattr(_sending, "now", False)
