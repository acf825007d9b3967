"""The one thread that works on all requests of pyreqwest, when the process is to end."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import RequestError

_NOWHERE = "http://127.0.0.1:0/"
"""Refused at once, since no server can have port 0."""
_LONGEST = timedelta(seconds=1)


def wait_for_wire_thread() -> None:
    """Waits until the thread has left Python: some 0.1 ms, more while it has much to do.

    It tells a loop of an answer by calling into Python, and the loop goes on before it is out of
    that call. An interpreter that ends in between aborts the process, exit code 134. The thread
    takes one thing after the other, so a last request that it answers to nobody's loop is the sign
    that it has left; this thread waits for it without holding up Python.
    """
    last = SyncClientBuilder().no_proxy().danger_accept_invalid_certs(True)  # spares loading any
    with suppress(RequestError):
        last.build().get(_NOWHERE).timeout(_LONGEST).build().send()
