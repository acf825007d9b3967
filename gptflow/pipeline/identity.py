"""What makes two calls the same call: the call key, under which the store keeps a reply.

Host, key, timeout and limits are not part of it: changing them reuses every answer.

Order is content: a model writes a schema's properties in the order in which they stand, and a
template goes through vars in theirs. Only the parameters of a model are sorted, at their top
level: `temperature` before `max_tokens` asks the same as after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from gptflow.records import Message, Row

KEY_BYTES = 16
_encoded = msgspec.json.encode


def is_deterministic(params: Mapping[str, Any]) -> bool:
    """Whether the same call may be expected to give the same answer.

    The API's default temperature is 1, so a call that names neither temperature nor seed is not.
    """
    return params.get("temperature") == 0 or params.get("seed") is not None


def in_canonical_order(params: Mapping[str, Any]) -> dict[str, Any]:
    """A model's parameters by name; what stands inside of them keeps its order."""
    return dict(sorted(params.items()))


class CallIdentity:
    """Makes the call keys of one step. What all its calls share is hashed once."""

    def __init__(
        self, *, endpoint: str, model: str, params: Mapping[str, Any], step: str, server: str = ""
    ) -> None:
        """`server` sets answers of simulators and local models apart from paid ones."""
        shared = _encoded([server, endpoint, model, in_canonical_order(params)])
        self._shared = blake2b(shared, digest_size=KEY_BYTES)
        self._step = step.encode()
        self._deterministic = is_deterministic(params)

    def key(self, messages: list[Message], row: Row) -> bytes:
        """The call key. Without determinism every row has its own answer, and finds it again.

        A row's key has 8 bytes with `id` columns and 16 without, so that neither can be taken for
        the other.
        """
        digest = self._shared.copy()
        digest.update(_encoded(messages))
        if not self._deterministic:
            digest.update(row.key + row.ordinal.to_bytes(8, "big") + self._step)
        return digest.digest()


def digest_of(value: Any) -> str:
    """A hex digest of any JSON-like value; the members of an object count in their order."""
    return blake2b(_encoded(value), digest_size=KEY_BYTES).hexdigest()
