from __future__ import annotations

import json
from typing import Any

import pytest

from gptflow.engine import wire
from gptflow.engine.attempt import Flaw, FlawKind
from gptflow.engine.stored import stored_reply
from gptflow.errors import CallFailed, StoreCorrupt
from gptflow.records import Call, FailureKind, Reply, Usage

CALL = Call(b"k", "label", "m", [{"role": "user", "content": "hi"}], {})


def body(message: Any, finish: Any = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


def decoded(raw: bytes) -> Reply:
    reply = wire.decode(raw)
    assert isinstance(reply, Reply)
    return reply


def flaw(raw: bytes) -> FlawKind:
    found = wire.decode(raw)
    assert isinstance(found, Flaw)
    return found.kind


def test_a_call_becomes_the_same_bytes_every_time() -> None:
    call = Call(b"k", "s", "m", [{"role": "user", "content": "hé"}], {"temperature": 0, "n": 1})

    expected = '{"model":"m","messages":[{"role":"user","content":"hé"}],"temperature":0,"n":1}'
    assert wire.encode(call) == expected.encode()


def test_a_call_of_the_endpoint_for_texts_has_a_prompt_and_no_messages() -> None:
    call = Call(b"k", "s", "davinci-002", [], {"prompt": ["a", "b"], "n": 2}, "completions")

    assert wire.encode(call) == b'{"model":"davinci-002","prompt":["a","b"],"n":2}'


def test_half_of_a_surrogate_pair_cannot_be_asked() -> None:
    with pytest.raises(UnicodeEncodeError):
        wire.encode(Call(b"k", "s", "m", [{"role": "user", "content": "a\ud800"}], {}))


def test_a_reply_has_text_reason_usage_and_model() -> None:
    usage = {
        "prompt_tokens": 82,
        "completion_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    raw = body({"content": "hi"}, model="m-1", usage=usage)

    expected = Reply("hi", "stop", Usage(82, 17, 64), "m-1", raw)
    assert decoded(raw) == expected


def test_usage_that_is_not_told_is_unknown_and_not_zero() -> None:
    assert decoded(body({"content": "hi"})).usage == Usage(None, None, None)


def test_a_reply_cut_by_the_token_limit_is_kept_and_marked() -> None:
    assert decoded(body({"content": "half a sen"}, "length")).truncated


def test_a_missing_finish_reason_is_fine_with_content() -> None:
    assert decoded(body({"content": "hi"}, None)).finish_reason is None


def test_parts_of_content_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]

    assert decoded(body({"content": parts})).text == "ab"


def test_tool_calls_without_content_are_a_reply_without_text() -> None:
    assert decoded(body({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls")).text == ""


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 5.0}, {"prompt_tokens": "5"}, [], "free", {"prompt_tokens": -1}]
)
def test_odd_usage_does_not_cost_the_reply(usage: Any) -> None:
    assert decoded(body({"content": "hi"}, usage=usage)).text == "hi"


def test_tokens_as_floats_are_counted() -> None:
    assert decoded(body({"content": "x"}, usage={"prompt_tokens": 5.0})).usage.prompt_tokens == 5


def test_nan_and_a_byte_order_mark_and_doubled_names_are_accepted() -> None:
    raw = b'\xef\xbb\xbf{"choices":[],"choices":[{"message":{"content":"hi"},"logprobs":NaN}]}'

    assert decoded(raw).text == "hi"


def test_half_of_a_surrogate_pair_is_replaced_so_that_the_text_can_be_written() -> None:
    raw = b'{"choices":[{"message":{"content":"a\\ud800b"},"finish_reason":"stop"}]}'

    assert decoded(raw).text == "a\ufffdb"


def test_null_as_error_is_no_error() -> None:
    assert decoded(body({"content": "hi"}, error=None)).text == "hi"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (body({"content": None, "refusal": "I cannot"}), FlawKind.REFUSED),
        (body({"content": "half"}, "content_filter"), FlawKind.REFUSED),
        (body({"content": None}), FlawKind.EMPTY),
        (body({"content": "", "reasoning_content": "hmm"}), FlawKind.EMPTY),
        (body({"content": ""}, None), FlawKind.EMPTY),
        (body({"content": ""}, "length"), FlawKind.CUT_OFF),
        (body({"content": "half"}, "error"), FlawKind.BROKEN_OFF),
        (body({"content": "half"}, error={"message": "x"}), FlawKind.ERROR),
        (b'{"error":{"message":"Overloaded","code":502},"choices":null}', FlawKind.ERROR),
        (b'{"error":"no such model"}', FlawKind.ERROR),
        (b'{"choices":[{"text":null}]}', FlawKind.UNREADABLE),
        (b'{"choices":[{"text":"","finish_reason":"length"}]}', FlawKind.CUT_OFF),
        (b'{"choices":[{"text":"","finish_reason":"content_filter"}]}', FlawKind.REFUSED),
        (body({"content": None}, error={"message": "x", "code": 502}), FlawKind.ERROR),
        (b'[{"error":{"message":"x"}}]', FlawKind.ERROR),
        (b'{"object":"error","message":"x"}', FlawKind.ERROR),
        (b'{"choices":[]}', FlawKind.UNREADABLE),
        (b'{"choices":[{"message":null}]}', FlawKind.UNREADABLE),
        (b'{"choices":[7]}', FlawKind.UNREADABLE),
        (b'{"choices":null}', FlawKind.UNREADABLE),
        (b"null", FlawKind.UNREADABLE),
        (b"[]", FlawKind.UNREADABLE),
        (b'"text"', FlawKind.UNREADABLE),
        (b"", FlawKind.UNREADABLE),
        (b"  \n\n", FlawKind.UNREADABLE),
        (b'{"choices":[{"message":{"content":"cut', FlawKind.UNREADABLE),
        (b'{"choices":[{"message":{"content":"\xff"}}]}', FlawKind.UNREADABLE),
        (b"<html><title>Welcome</title></html>", FlawKind.UNREADABLE),
        (b'data: {"choices":[]}\n\ndata: [DONE]\n', FlawKind.UNREADABLE),
        (b"[" * 100_000, FlawKind.UNREADABLE),
    ],
)
def test_a_200_that_is_no_reply_is_told_apart(raw: bytes, kind: FlawKind) -> None:
    assert flaw(raw) is kind


def test_nul_in_content_is_kept() -> None:
    assert decoded(b'{"choices":[{"message":{"content":"a\\u0000b"}}]}').text == "a\0b"


def test_an_unknown_finish_reason_is_fine_with_content() -> None:
    assert decoded(body({"content": "hi"}, "eos_token")).text == "hi"


def test_what_gptflow_does_not_read_stays_in_the_body() -> None:
    message = {"content": "4", "reasoning_content": "2 + 2", "tool_calls": [{"id": "c1"}]}
    raw = body(message, logprobs={"content": []}, system_fingerprint="fp")

    assert decoded(raw).body == raw


def completion(*choices: dict[str, Any]) -> bytes:
    return json.dumps({"choices": choices, "model": "m"}).encode()


def said(text: Any, index: int | None, finish: str = "stop") -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": finish}


def written(text: str, index: int) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": "stop"}


def test_a_completed_text_is_a_reply() -> None:
    reply = decoded(completion(written(" and so on", 0)))

    assert (reply.text, reply.finish_reason) == (" and so on", "stop")
    assert wire.texts(reply.body) == [" and so on"]


def test_texts_come_by_index_those_of_the_first_prompt_first() -> None:
    raw = completion(*(written(f"prompt {n // 2} choice {n % 2}", n) for n in (3, 0, 2, 1)))

    assert decoded(raw).text == "prompt 0 choice 0"
    assert wire.texts(raw) == [f"prompt {p} choice {c}" for p in (0, 1) for c in (0, 1)]


@pytest.mark.parametrize("indices", [(0, 0), (None, None)])
def test_choices_without_numbers_keep_their_order(indices: tuple[int | None, ...]) -> None:
    raw = completion(*(said(text, i) for text, i in zip("ba", indices, strict=True)))

    assert wire.texts(raw) == ["b", "a"]


def test_odd_choices_are_read_with_patience_in_order() -> None:
    parts = [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]
    raw = completion(said(parts, 1), said("first", 0))

    assert decoded(raw).text == "first"
    assert wire.texts(raw) == ["first", "second"]


def test_a_choice_without_content_is_borne_beside_one_with_some() -> None:
    raw = completion(said("a", 1), said(None, 0, "content_filter"), said("", 2))

    assert decoded(raw).finish_reason == "content_filter"
    assert wire.texts(raw) == ["", "a", ""]


@pytest.mark.parametrize(
    ("choices", "kind"),
    [
        ([said(None, 0, "content_filter"), said("", 1)], FlawKind.REFUSED),
        ([said("", 0), said(None, 1, "content_filter")], FlawKind.EMPTY),
        ([said("a", 0), said("half", 1, "error")], FlawKind.BROKEN_OFF),
        ([said("a", 0), {"index": 1, "message": None}], FlawKind.UNREADABLE),
    ],
)
def test_several_choices_are_no_reply_if_none_has_content_or_the_server_failed(
    choices: list[dict[str, Any]], kind: FlawKind
) -> None:
    assert flaw(completion(*choices)) is kind


def test_a_refused_reply_keeps_what_the_model_said() -> None:
    found = wire.decode(body({"content": "half"}, "content_filter"))

    assert isinstance(found, Flaw)
    assert found.text == "half"


def test_a_stored_body_reads_as_it_did() -> None:
    raw = body({"content": "hi"})

    assert stored_reply(CALL, raw) == wire.decode(raw)


def test_a_stored_body_that_is_no_reply_is_a_corrupt_store() -> None:
    with pytest.raises(StoreCorrupt, match="stored reply"):
        stored_reply(CALL, b"{")


def test_a_stored_refusal_is_the_same_failure_again() -> None:
    raw = body({"content": None, "refusal": "I cannot."}, usage={"prompt_tokens": 5})
    with pytest.raises(CallFailed) as caught:
        stored_reply(CALL, raw)
    failure = caught.value.failure
    assert (failure.kind, failure.step, failure.replies) == (FailureKind.REFUSED, "label", 1)
    assert caught.value.reply is not None
    assert caught.value.reply.usage.prompt_tokens == 5
