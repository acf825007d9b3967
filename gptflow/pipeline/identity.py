"""What makes two calls the same call: the call key, under which the store keeps a reply.

Host, key, timeout and limits are not part of it: changing them reuses every answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from gptflow.records import Message, Row

KEY_BYTES = 16
_canonical = msgspec.json.Encoder(order="sorted").encode


def is_deterministic(params: Mapping[str, Any]) -> bool:
    """Whether the same call may be expected to give the same answer.

    The API's default temperature is 1, so a call that names neither temperature nor seed is not.
    """
    return params.get("temperature") == 0 or params.get("seed") is not None


class CallIdentity:
    """Makes the call keys of one step. What all its calls share is hashed once."""

    def __init__(
        self, *, endpoint: str, model: str, params: Mapping[str, Any], step: str, server: str = ""
    ) -> None:
        """`server` sets answers of simulators and local models apart from paid ones."""
        self._shared = blake2b(_canonical([server, endpoint, model, params]), digest_size=KEY_BYTES)
        self._step = step.encode()
        self._deterministic = is_deterministic(params)

    def key(self, messages: list[Message], row: Row) -> bytes:
        """The call key. Without determinism every row has its own answer, and finds it again."""
        digest = self._shared.copy()
        digest.update(_canonical(messages))
        if not self._deterministic:
            digest.update(row.key + row.ordinal.to_bytes(8, "big") + self._step)
        return digest.digest()


def digest_of(value: Any) -> str:
    """A hex digest of any JSON-like value, the same for the same content in any key order."""
    return blake2b(_canonical(value), digest_size=KEY_BYTES).hexdigest()
