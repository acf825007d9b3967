"""What of a spec must not be seen: a Lark hook or secret that was written into it.

The place for them is the environment: `hook: "${LARK_HOOK}"`. One that stands in the file all the
same is read from it, and from there on the file's text has dots in its place: in the store, in
the lines that problems show, and in --set. A reference to the environment stays to be seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from gptflow.spec.node import ListNode, Node, ScalarNode, Sheet, Span
from gptflow.spec.origin import KeyPath
from gptflow.spec.problems import Problem
from gptflow.spec.yaml12 import read_yaml

SECTION = "notify"
OPEN_KEYS = frozenset({"on", "keyword", "base_wait_s"})
"""What may be seen of the section. A misspelt key may hold a hook, and is not among them."""
HIDDEN = "…"
_DOT = "•"

_SEEN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|\s+")
_TOKEN = re.compile(r"(?<=/bot/v2/hook/)[\w-]+")
"""The secret part of a Lark URL, wherever it stands: in a comment, say."""
_ASSIGNED = re.compile(r"""(\b(?:hook|secret)["']?\s*[:=][ \t]*)([^\r\n]*)""")
"""What stands behind a key of that name, in a text that is no YAML."""
_SHORTEST_WORD = 4


def may_hold_secrets(texts: Iterable[str]) -> bool:
    """Whether it is worth looking closer."""
    return any(SECTION in text or "/hook/" in text for text in texts)


def veiled_file(sheet: Sheet, tree: Node) -> Sheet:
    """The file with dots for its secrets, character by character: every place stays what it is."""
    return Sheet(sheet.file, _veiled(sheet.text, _hidden_spans(tree)))


def veiled_change(text: str) -> str:
    """A --set with dots for its secrets."""
    path, equals, _ = text.partition("=")
    keys: KeyPath = tuple(path.split("."))
    if not _is_hidden(keys):
        return _veiled(text, ())
    sheet, start = Sheet("", text), len(path) + len(equals)
    tree, _ = read_yaml(sheet, start=start)
    whole = [Span(sheet, start, len(text))]
    return _veiled(text, _hidden_spans(tree, keys) if tree else whole)


def veiled_data(data: Any) -> Any:
    """Data for messages: that of the spec, without its secrets, as they are after `${NAME}`."""
    if not isinstance(data, dict) or SECTION not in data:
        return data
    return {**data, SECTION: _veiled_value(data[SECTION], (SECTION,))}


def veiled_problems(problems: Iterable[Problem], text: str) -> list[Problem]:
    """Problems of a text that could not be read, without what looks like a secret in it."""
    words = {match[0] for match in _TOKEN.finditer(text)}
    for match in _ASSIGNED.finditer(text):
        words |= {word for word in _SEEN.split(match[2]) if len(word) >= _SHORTEST_WORD}
    return [_without(problem, words) for problem in problems]


def _is_hidden(path: KeyPath) -> bool:
    return path[0] == SECTION and not any(part in OPEN_KEYS for part in path)


def _hidden_spans(node: Node, path: KeyPath = ()) -> Iterator[Span]:
    """The texts and numbers of the section that are not to be seen."""
    if path and not _is_hidden(path):
        return
    if isinstance(node, ScalarNode):
        if path and node.value is not None:
            yield node.span
        return
    children: Iterable[tuple[str | int, Node]]
    if isinstance(node, ListNode):
        children = enumerate(node.items)
    else:
        children = ((key, entry.node) for key, entry in node.entries.items())
    for part, child in children:
        yield from _hidden_spans(child, (*path, part))


def _veiled(text: str, spans: Iterable[Span]) -> str:
    """The text with dots in the spans, and in what is a hook's token by its looks."""
    for span in spans:
        start, end = span.start, span.end
        if text[start : start + 1] in ("|", ">"):
            start = min(end, (text.find("\n", start) + 1) or end)
        elif text[start : start + 1] in ("'", '"'):
            start, end = start + 1, end - 1
        text = text[:start] + _dots(text[start:end]) + text[end:]
    return _TOKEN.sub(lambda match: _DOT * len(match[0]), text)


def _dots(text: str) -> str:
    """Dots for all but white space and references to the environment."""
    hidden, start = "", 0
    for seen in _SEEN.finditer(text):
        hidden += _DOT * (seen.start() - start) + seen[0]
        start = seen.end()
    return hidden + _DOT * (len(text) - start)


def _veiled_value(value: Any, path: KeyPath) -> Any:
    if not _is_hidden(path):
        return value
    if isinstance(value, dict):
        return {key: _veiled_value(child, (*path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [_veiled_value(child, (*path, index)) for index, child in enumerate(value)]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _without(problem: Problem, words: Iterable[str]) -> Problem:
    def veil(text: str) -> str:
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, _DOT * len(word))
        return text

    line = _ASSIGNED.sub(lambda match: match[1] + _dots(match[2]), problem.place.text)
    place = replace(problem.place, text=veil(line))
    return Problem(veil(problem.message), place, problem.hint and veil(problem.hint))
