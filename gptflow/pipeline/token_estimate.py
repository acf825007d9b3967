"""How many tokens messages have, roughly, without a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

from gptflow.records import Message

TOKENS_PER_MESSAGE = 4
"""What the chat format adds to each message."""
BYTES_PER_TOKEN = 4
"""English prose has about four bytes a token in the common vocabularies; other scripts take more
bytes a character, which this follows, and fewer a token, which it does not."""


def estimate_tokens(messages: Iterable[Message]) -> int:
    """Prompt tokens of a call, to within some 20 % for English prose."""
    return sum(
        TOKENS_PER_MESSAGE
        + -(-len(str(message["content"]).encode("utf-8", "replace")) // BYTES_PER_TOKEN)
        for message in messages
    )
