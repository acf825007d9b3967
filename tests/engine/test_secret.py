"""What a secret takes out of the texts of others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import openai
import pytest

from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.secret import Secret
from gptflow.records import Call

Serve = Callable[..., str]
Respond = Callable[..., bytes]


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("the key shrt9 is wrong", "the key … is wrong"),
        ('{"key":"shrt9"}', '{"key":"…"}'),
        ("Bearer shrt9, shrt9!", "Bearer …, …!"),
        ("xshrt9 shrt99", "xshrt9 shrt99"),
    ],
)
def test_a_short_key_is_masked_as_a_word_of_its_own(text: str, scrubbed: str) -> None:
    assert Secret("shrt9").scrub(text) == scrubbed


def test_a_key_of_three_signs_is_masked_and_none_of_two() -> None:
    assert Secret("a.c").scrub("a.c, abc") == "…, abc"
    assert Secret("ab").scrub("ab") == "ab"


def test_a_long_key_is_masked_within_a_word_too() -> None:
    assert Secret("sk-01234567").scrub("Bearersk-01234567x") == "Bearer…x"
    assert Secret("sk-0123456789abcdef").scrub("sk-0123456789abcdef") == "…cdef"


@pytest.mark.parametrize("word", ["none", "EMPTY", "Any", "null", "no-key", "not-needed"])
def test_a_word_for_no_key_stays_in_texts(word: str) -> None:
    assert Secret(word).scrub(f"{word} is left") == f"{word} is left"


def test_a_short_key_that_a_server_quotes_is_in_no_message_and_no_body(
    serve: Serve, respond: Respond
) -> None:
    error = {"error": {"message": "shrt9 is not served", "param": "shrt9", "code": "shrt9"}}
    base_url = serve(respond(400, json.dumps(error).encode()))

    async def complete() -> None:
        async with Engine(Config((KeyEntry("main", Secret("shrt9"), base_url),))) as engine:
            await engine.complete(Call(b"", "", "m", [{"role": "user", "content": "hi"}], {}))

    with pytest.raises(openai.BadRequestError) as caught:
        asyncio.run(complete())
    assert "… is not served" in str(caught.value)
    assert "shrt9" not in f"{caught.value!r} {caught.value.body} {caught.value.response.text}"
