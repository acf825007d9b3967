"""How long to look, and what to look with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("GPTFLOW_FUZZ_EXAMPLES", "0"))
"""So many, at random, where somebody fuzzes by hand; else a few, the same ones each time."""
MOST_CPU_S = 2.0

fuzzed = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)

odd_text = st.text() | st.text(st.sampled_from("\ud800\x00\x1b\r\n\t\u2028\u202e\ufeffa=,;\"'{}[]"))
odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            "\ud800",
            "\x00",
            "a\x00b",
            "${A",
            "$" * 9,
            "{{",
            "{%",
            "../x",
            "/",
            "~",
            ".",
            "*",
            "**/*",
        ),
        *("a" * 5000, "(", "{{ 9 ** 9 ** 9 }}", 10**400, -1, 2**64, 1e308, None, True, "", " "),
        *([], {}, [[]], {"": 1}, {"\ud800": 1}, {"file": "\ud800"}, {"file": "x" * 5000}),
        *({"schema": {"$ref": "#"}}, {"schema": {"type": "\ud800"}}, {"regex": "\ud800"}),
        *({"json": "\ud800"}, {"choice": ["\ud800"]}, {"choice": []}, {"one_of": [None]}),
    ]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def broken_json(draw: st.DrawFn) -> bytes:
    """JSON with a part cut out, put in, or written twice."""
    text = draw(json_values.map(msgspec.json.encode))
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    middle = draw(
        st.sampled_from(
            [b"", b"NaN", b"\xff", b'"\\ud800"', b"1e999", b"[" * 2000, text[start:end] * 2]
        )
        | st.binary(max_size=9)
    )
    return text[:start] + middle + text[end:]


@contextmanager
def quick() -> Iterator[None]:
    """Whatever happens inside takes no long time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < MOST_CPU_S
