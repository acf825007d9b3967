"""What of a spec must not be seen: a Lark hook or secret that was written into it.

The place for them is the environment: `hook: "${LARK_HOOK}"`. One that stands in the file all the
same is read from it, and from there on the file's text has dots in its place: in the store, in
the lines that problems show, and in --set. A reference to the environment stays to be seen.

A slip does not uncover it: what is called a hook or a secret is one under any section, and where
there are problems, lines and URLs are judged by their looks as well.
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
OPEN_SECTIONS = frozenset({("steps",), ("source",)})
"""Where a name such as `secret` is a step's, a field's or a column's."""
HIDDEN = "…"
_DOT = "•"

_SEEN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|\s+")
_SUSPICIOUS = re.compile("notify|hook|secret|lark", re.IGNORECASE)
_NAME = re.compile(r"(?<![a-z])(web)?(hook|secret|lark)s?(?![a-z])", re.IGNORECASE)
"""A key of that name: also lark_hook and hook_url, but no secretary."""
_TOKEN = re.compile(r"(?<=/bot/v2/hook/)[\w-]+")
"""The secret part of a Lark URL, wherever it stands: in a comment, say."""
_HOOK_URL = re.compile(r"""(https?://[^\s"']{0,300}?hook[^\s"'/]*/)([^\s"']+)""", re.IGNORECASE)
_URL = re.compile(r"""(https?://[^\s"'/]+/)([^\s"']+)""", re.IGNORECASE)
_ASSIGNING = r"""((?<![a-z])(?:web)?(?:hook|secret)s?(?:[_-]\w{0,40})?["']?\s*[:=][ \t]*)"""
_ASSIGNED = re.compile(rf"{_ASSIGNING}([^\r\n]*)", re.IGNORECASE)
"""What stands behind a key of that name, in a text that is no YAML."""
_ASSIGNED_IN_FLOW = re.compile(
    rf"""{_ASSIGNING}("(?:[^"\\]|\\.)*"?|'[^']*'?|[^,\}}\r\n]*)""", re.IGNORECASE
)
_COMMENT = re.compile(r"^[ \t]*#[^\r\n]*", re.MULTILINE)
_PATH = re.compile(r"[\w. -]*")
_SHORTEST_WORD = 4


def may_hold_secrets(texts: Iterable[str]) -> bool:
    """Whether it is worth looking closer."""
    return any(_SUSPICIOUS.search(text) for text in texts)


def veiled_file(sheet: Sheet, tree: Node) -> Sheet:
    """The file with dots for its secrets, character by character: every place stays what it is."""
    return Sheet(sheet.file, _veiled(sheet.text, _hidden_spans(tree)))


def veiled_change(text: str) -> str:
    """A --set with dots for its secrets."""
    if not may_hold_secrets([text]):
        return text
    path, equals, _ = text.partition("=")
    named = _PATH.match(path)
    if named and (not equals or named.end() < len(path)):  # it is no path, or there is no value
        return text[: named.end()] + _dots(text[named.end() :])
    sheet, start = Sheet("", text), len(path) + len(equals)
    tree, _ = read_yaml(sheet, start=start)
    whole = [Span(sheet, start, len(text))]
    keys = tuple(part.strip() for part in path.split("."))
    return _veiled(text, _hidden_spans(tree, keys) if tree else whole)


def veiled_data(data: Any) -> Any:
    """Data for messages: that of the spec, without its secrets, as they are after `${NAME}`."""
    return _veiled_value(data, ())


def veiled_problems(problems: Iterable[Problem], unread: str = "") -> list[Problem]:
    """Problems without what looks like a secret in them.

    `unread`: the text, if it could not be read: any word of it that may be one is veiled.
    """
    words = {match[0] for match in _TOKEN.finditer(unread)}
    for match in _ASSIGNED.finditer(unread):
        found = (word.strip("\"',[]{}") for word in _SEEN.split(match[2]))
        words |= {word for word in found if len(word) >= _SHORTEST_WORD}
    return [_without(problem, words, is_read=not unread) for problem in problems]


def _is_private(path: KeyPath) -> bool:
    """Whether hooks and secrets stand there, or what was meant to be a place for them."""
    if path[:1] in OPEN_SECTIONS:
        return False
    return path[:1] == (SECTION,) or any(_NAME.search(str(part)) for part in path)


def _is_hidden(path: KeyPath, text: str) -> bool:
    return _is_private(path) and ("://" in text or not any(part in OPEN_KEYS for part in path))


def _hidden_spans(node: Node, path: KeyPath = ()) -> Iterator[Span]:
    """The texts, numbers and keys below a path that are not to be seen."""
    if isinstance(node, ScalarNode):
        if node.value is not None and _is_hidden(path, node.text):
            yield node.span
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from _hidden_spans(item, (*path, index))
    else:
        for key, entry in node.entries.items():
            if "://" in key and path[:1] not in OPEN_SECTIONS:
                yield entry.key
            yield from _hidden_spans(entry.node, (*path, key))


def _veiled(text: str, spans: Iterable[Span]) -> str:
    """The text with dots in the spans, and in what is a secret by its looks."""
    for span in spans:
        start, end = span.start, span.end
        if text[start : start + 1] in ("|", ">"):
            start = min(end, (text.find("\n", start) + 1) or end)
        elif text[start : start + 1] in ("'", '"'):
            start, end = start + 1, end - 1
        text = text[:start] + _dots(text[start:end]) + text[end:]
    text = _TOKEN.sub(lambda match: _DOT * len(match[0]), text)
    text = _HOOK_URL.sub(_dotted, text)
    return _COMMENT.sub(lambda match: _veiled_line(match[0]), text)


def _dotted(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return name + value[0] + _dots(value[1:-1]) + value[-1]
    return name + _dots(value)


def _dots(text: str) -> str:
    """Dots for all but white space and references to the environment."""
    hidden, start = "", 0
    for seen in _SEEN.finditer(text):
        hidden += _DOT * (seen.start() - start) + seen[0]
        start = seen.end()
    return hidden + _DOT * (len(text) - start)


def _veiled_line(line: str) -> str:
    """A line with dots for what is called a hook or a secret in it."""
    first = _ASSIGNED.search(line)
    in_flow = first and "{" in line[: first.start()]
    return (_ASSIGNED_IN_FLOW if in_flow else _ASSIGNED).sub(_dotted, line)


def _veiled_value(value: Any, path: KeyPath) -> Any:
    if path[:1] in OPEN_SECTIONS:
        return value
    if isinstance(value, dict):
        return {key: _veiled_value(child, (*path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [_veiled_value(child, (*path, index)) for index, child in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    return HIDDEN if _is_hidden(path, str(value)) else value


def _without(problem: Problem, words: Iterable[str], *, is_read: bool) -> Problem:
    def veil(text: str) -> str:
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, _DOT * len(word))
        return _URL.sub(_dotted, text)

    line = problem.place.text
    line = _veiled_line(line) if is_read else _ASSIGNED.sub(_dotted, line)
    place = replace(problem.place, text=veil(line))
    return Problem(veil(problem.message), place, problem.hint and veil(problem.hint))
