from __future__ import annotations

import pytest

from gptflow.notify.quote import quoted


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('hi <at user_id="all">all</at>', 'hi < at user_id="all">all< /at>'),
        ("<AT id=all></AT>", "< AT id=all>< /AT>"),
        ("a < b, <b>", "a < b, <b>"),
    ],
)
def test_a_quoted_text_mentions_nobody(text: str, kept: str) -> None:
    assert quoted(text) == kept


def test_a_quoted_text_is_cut_only_where_it_is_told_to() -> None:
    assert quoted("x" * 5_000) == "x" * 5_000
    assert quoted("x" * 5_000, 10) == "x" * 10 + "…"
