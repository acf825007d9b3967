"""Finds a stretch of a scalar's text in the file that it was written in.

YAML folds lines, strips indentation and knows escapes, so offsets in a value are not offsets in
the file. But every character that is no white space stands in both, in the same order: counting
those leads from one to the other, whatever the style.
"""

from __future__ import annotations

import re

from gptflow.spec.node import ScalarNode, Span

_WHITE = " \t\r\n"
_BLACK = r"[^ \t\r\n]"
_WHITE_ESCAPE = r"\\(?:[tnr \t\r\n]|x(?:20|09|0[aAdD])|u00(?:20|09|0[aAdD])|U0{6}(?:20|09|0[aAdD]))"
_ESCAPE = r"\\(?:x.{2}|u.{4}|U.{8}|.)"
_BLACKS = {
    "'": re.compile(rf"(''|{_BLACK})"),
    '"': re.compile(rf"{_WHITE_ESCAPE}|({_ESCAPE}|{_BLACK})"),
    "": re.compile(rf"({_BLACK})"),
}
"""By style, what gives one character that is no white space, as group 1."""
_BLOCK_HEADER = re.compile(r"[^\r\n]*")
_LINE_END = re.compile(r"\r\n|[\r\n]")


def stretch_of(node: ScalarNode, offset: int, length: int) -> Span:
    """Where `length` characters of the node's text from `offset` on stand in its sheet."""
    blacks = _blacks(node)
    first = _locate(node, blacks, min(max(offset, 0), len(node.text)))
    last = _locate(node, blacks, min(max(offset + length - 1, offset, 0), len(node.text)))
    return Span(node.span.sheet, first.start, max(first.end, last.end))


def _blacks(node: ScalarNode) -> list[tuple[int, int]]:
    """Start and end in the sheet of all that gives a character that is no white space."""
    sheet_text, start, end = node.span.sheet.text, node.span.start, node.span.end
    if node.style in ("|", ">"):
        header = _BLOCK_HEADER.match(sheet_text, start, end)
        start = header.end() if header else start
    elif node.style:
        start, end = start + 1, end - 1
    pattern = _BLACKS.get(node.style, _BLACKS[""])
    return [match.span() for match in pattern.finditer(sheet_text, start, end) if match[1]]


def _locate(node: ScalarNode, blacks: list[tuple[int, int]], offset: int) -> Span:
    """One character of the text, or its end."""
    text, sheet = node.text, node.span.sheet
    before = len(re.findall(_BLACK, text[:offset]))
    if offset < len(text) and text[offset] not in _WHITE and before < len(blacks):
        return Span(sheet, *blacks[before])
    start = _locate_white(node, blacks, offset, before)
    start = min(max(start, node.span.start), node.span.end)
    return Span(sheet, start, min(start + 1, node.span.end))


def _locate_white(node: ScalarNode, blacks: list[tuple[int, int]], offset: int, before: int) -> int:
    """White space is counted from the nearest character of its line; an empty line by lines."""
    text = node.text
    gap = text[len(text[:offset].rstrip(_WHITE)) : offset]
    until_next = re.match(rf"[ \t\r]*(?={_BLACK})", text[offset:])
    if before and "\n" not in gap:
        return blacks[before - 1][1] + len(gap)
    if until_next and before < len(blacks):
        return blacks[before][0] - until_next.end()
    gap_start = blacks[before - 1][1] if before else node.span.start
    line_ends = list(_LINE_END.finditer(node.span.sheet.text, gap_start, node.span.end))
    skipped = gap.count("\n") if before else gap.count("\n") + 1
    return line_ends[min(skipped, len(line_ends)) - 1].end() if line_ends else gap_start
