"""Failures below HTTP: connections that break, hang or crawl."""

from __future__ import annotations

import sys

from gptflow.mock.failure.model import Cut, Ending, Framing, ServerFailure, fixed, garbled

_WHOLE = garbled(lambda raw: raw)
_LAST = ((b"connection", b"close"),)
_BLANK_LINES = 20


def _broken(name: str, about: str, cut: Cut) -> ServerFailure:
    return ServerFailure(name, about, 200, _WHOLE, cut=cut)


TRANSPORT = (
    _broken(
        "reset_before_reply",
        "The connection is reset before the first byte.",
        Cut(Framing.NONE, Ending.RESET, body_share=0),
    ),
    _broken(
        "close_before_reply",
        "The connection ends before the first byte, as kept-alive ones do.",
        Cut(Framing.NONE, Ending.CLOSE, body_share=0),
    ),
    _broken(
        "reset_mid_body",
        "The connection is reset in the middle of the body.",
        Cut(Framing.LENGTH, Ending.RESET, body_share=0.5),
    ),
    _broken(
        "short_body",
        "The connection ends before as many bytes came as content-length says.",
        Cut(Framing.LENGTH, Ending.CLOSE, body_share=0.5),
    ),
    _broken(
        "cut_chunk",
        "The connection ends before the last chunk.",
        Cut(Framing.CHUNKED, Ending.CLOSE, body_share=0.5),
    ),
    _broken(
        "cut_without_length",
        "Half of the body, and nothing by which to tell that it is half.",
        Cut(Framing.CLOSE, Ending.CLOSE, body_share=0.5),
    ),
    _broken(
        "hang",
        "Not one byte, for as long as the client waits.",
        Cut(Framing.NONE, Ending.HANG, body_share=0),
    ),
    _broken(
        "hang_mid_body",
        "Half of the body, then nothing for as long as the client waits.",
        Cut(Framing.LENGTH, Ending.HANG, body_share=0.5),
    ),
    ServerFailure(
        "slow_drip",
        "One byte every 0.2 s: no read timeout ever fires.",
        200,
        _WHOLE,
        headers=_LAST,
        cut=Cut(Framing.LENGTH, Ending.CLOSE, drip_bytes=sys.maxsize, pause_s=0.2),
    ),
    ServerFailure(
        "blank_lines",
        "An empty line every 0.1 s for 2 s, then the answer (DeepSeek under load).",
        200,
        garbled(lambda raw: b"\n" * _BLANK_LINES + raw),
        headers=_LAST,
        cut=Cut(Framing.LENGTH, Ending.CLOSE, drip_bytes=_BLANK_LINES, pause_s=0.1),
    ),
    ServerFailure(
        "not_http",
        "Bytes that are not HTTP.",
        200,
        fixed(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is not HTTP\r\n\r\n"),
        cut=Cut(Framing.NONE, Ending.CLOSE),
    ),
    ServerFailure(
        "big_header",
        "A header of 200 KB, and a good answer.",
        200,
        _WHOLE,
        headers=((b"x-long", b"x" * 200_000),),
    ),
    _broken(
        "long_header",
        "A header of 2 MB.",
        Cut(Framing.LONG_HEADER, Ending.CLOSE),
    ),
)
