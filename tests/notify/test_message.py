from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.notify.message import CUT_MARK, MOST_BYTES, Message, encoded

Kind = Literal["text", "post", "interactive"]


def test_each_kind_has_the_form_that_lark_documents() -> None:
    assert Message("hi").body() == {"msg_type": "text", "content": {"text": "hi"}}
    assert Message("a\nb", "T", "post").body()["content"] == {
        "post": {
            "en_us": {
                "title": "T",
                "content": [[{"tag": "text", "text": "a"}], [{"tag": "text", "text": "b"}]],
            }
        }
    }
    card = Message("**b**", "T", "interactive", "red", markdown=True).body()
    assert card == {
        "msg_type": "interactive",
        "card": {
            "header": {"title": {"tag": "plain_text", "content": "T"}, "template": "red"},
            "elements": [{"tag": "div", "text": {"tag": "lark_md", "content": "**b**"}}],
        },
    }


@pytest.mark.parametrize("kind", ["text", "post", "interactive"])
@pytest.mark.parametrize("piece", ["x", "é", "漢", "🙂", '"', "\n", "\\", "\x01"])
def test_a_long_message_is_cut_by_bytes_with_a_mark(kind: Kind, piece: str) -> None:
    body = Message(piece * 30_000, "T" * 500, kind).body()
    assert MOST_BYTES - 1_000 < len(encoded(body)) <= MOST_BYTES
    assert CUT_MARK.strip() in encoded(body).decode()


@given(st.text(st.characters(), max_size=200).map(lambda text: text * 200))
def test_whatever_the_text_it_is_cut_between_code_points(text: str) -> None:
    body = Message(text).body()
    sent = body["content"]["text"]
    assert len(encoded(body)) <= MOST_BYTES
    clean = text.encode("utf-8", "replace").decode()
    assert sent == clean or clean.startswith(sent.removesuffix(CUT_MARK))


def test_a_text_that_just_fits_is_left_alone() -> None:
    text = "x" * (MOST_BYTES - 300)
    assert Message(text).body()["content"]["text"] == text


def test_a_lone_surrogate_does_not_keep_a_message_from_going_out() -> None:
    assert Message("a\ud800b").body()["content"]["text"] == "a?b"


def test_the_keyword_is_put_first_where_it_is_missing() -> None:
    assert Message("done").with_keyword("lab").text == "[lab] done"
    assert Message("the lab is done").with_keyword("lab").text == "the lab is done"
    assert Message("done", "T", "post").with_keyword("lab").title == "[lab] T"
    assert Message("done").with_keyword("").text == "done"


def test_a_keyword_is_not_cut_off() -> None:
    text = "x" * 30_000 + "lab"
    assert "lab" in Message(text).with_keyword("lab").body()["content"]["text"]
