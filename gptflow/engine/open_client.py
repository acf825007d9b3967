"""Opens the client that works in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptflow.engine.client import Client

if TYPE_CHECKING:
    from gptflow.engine.forked_client import ForkedClient


def open_client(*, timeout_s: float, connections: int) -> Client | ForkedClient:
    """A `Client`; a `ForkedClient` where the process was forked after a `Client` was built.

    pyreqwest's threads do not come along into a fork, and it knows that: a client that is built
    there raises instead of hanging.
    """
    try:
        return Client(timeout_s=timeout_s, connections=connections)
    except RuntimeError as error:
        if "fork" not in str(error):
            raise
    from gptflow.engine.forked_client import ForkedClient

    return ForkedClient(timeout_s=timeout_s, connections=connections)
