"""YAML text to nodes: version 1.2, no duplicate keys, no bombs.

PyYAML reads YAML 1.1, where `no` is false, `010` is 8 and `12:30` is 750. Only its parser is used
here: what the events mean is said in this file and in `spec.scalar`. All mappings have text as
keys, there are no tags but !!str, and no merge keys (which 1.2 dropped).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from gptflow.spec.node import Entry, ListNode, MapNode, Node, ScalarNode, Sheet, Span
from gptflow.spec.problems import Problem, place_in_text
from gptflow.spec.scalar import resolve_plain
from gptflow.spec.syntax import MISSING_KEY, Reading, syntax_problem, unquoted_template

MAX_DEPTH = 50
MAX_ALIASED_NODES = 10_000
"""Nodes that aliases may add in all: more than a person needs, less than a bomb has."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""All but c-printable, https://yaml.org/spec/1.2.2/#51-character-set."""
_BREAKS_OF_1_1 = "\x85\u2028\u2029"
"""Line breaks for a parser of YAML 1.1, characters like others in 1.2."""
_STR_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_PROPERTIES = re.compile(r"(?:[&!][^ \t\r\n]*[ \t\r\n]+)*")
"""Anchor and tag, which stand before a node's text."""
_BAD_KEYS = {
    "<<": (
        "YAML 1.2 has no merge key",
        "write the keys out, or use an alias for a whole value, as in `model: *default`",
    ),
    "": MISSING_KEY,
}


def read_yaml(sheet: Sheet, *, start: int = 0) -> tuple[Node | None, list[Problem]]:
    """The one document that the sheet holds from `start` on, and everything wrong with it.

    No node comes back where the text is empty, or so broken that its rest cannot be judged.
    """
    unprintable = _UNPRINTABLE.search(sheet.text, start)
    if unprintable:
        return None, [_unprintable_problem(sheet, unprintable)]
    text, restore = _hide_breaks_of_1_1(sheet.text[start:])
    # libyaml's parser is twenty times as fast as the pure one; not every platform has it.
    events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    composer = _Composer(sheet, start, events, restore)
    try:
        return composer.document(), composer.problems
    except yaml.MarkedYAMLError as error:
        problem = syntax_problem(sheet, start, error, composer.reading)
        known = [known for known in composer.problems if str(known.place) != str(problem.place)]
        return None, [*known, problem]
    except _UnreadableError as error:
        return None, [*composer.problems, error.problem]


def _unprintable_problem(sheet: Sheet, match: re.Match[str]) -> Problem:
    code = ord(match[0])
    return Problem(
        f"the character U+{code:04X} is not allowed in YAML",
        place_in_text(sheet.file, sheet.text, match.start()),
        f'remove it, or write it in double quotes as "\\u{code:04x}"',
    )


def _hide_breaks_of_1_1(text: str) -> tuple[str, dict[int, str]]:
    """The text with stand-ins for 1.1's breaks, character by character, and the way back."""
    present = [char for char in _BREAKS_OF_1_1 if char in text]
    if not present:
        return text, {}
    unused = (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
    stand_ins = dict(zip(present, unused, strict=False))
    hidden = text.translate({ord(char): stand_in for char, stand_in in stand_ins.items()})
    return hidden, {ord(stand_in): char for char, stand_in in stand_ins.items()}


class _UnreadableError(Exception):
    """Something after which the rest of the text cannot be judged."""

    def __init__(self, message: str, span: Span, hint: str) -> None:
        super().__init__(message)
        self.problem = Problem(message, span.place(), hint)


class _Composer:
    """Builds the nodes of one document from its events, and collects problems on the way."""

    def __init__(
        self, sheet: Sheet, start: int, events: Iterator[Any], restore: dict[int, str]
    ) -> None:
        self.problems: list[Problem] = []
        self.reading = Reading()
        self._sheet = sheet
        self._start = start
        self._events = events
        self._restore = restore
        self._anchors: dict[str, Node | None] = {}
        """None while the node is being built."""
        self._aliased_nodes = 0

    def document(self) -> Node | None:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        node = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _UnreadableError(
                "a second document begins here",
                self._span(after),
                "a spec is one document: remove the line ---",
            )
        return node

    def _span(self, event: Any) -> Span:
        start = self._start + event.start_mark.index
        return Span(self._sheet, start, max(start, self._start + event.end_mark.index))

    def _node(self, event: Any, depth: int) -> Node:
        span = self._span(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, span, depth)
        _check_depth(span, depth)
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag is not None:
            self._check_tag(event, span)
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._scalar(event, span)
        else:
            node = self._collection(event, span, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _collection(self, event: Any, span: Span, depth: int) -> Node:
        self.reading.opened.append(span.start)
        if isinstance(event, yaml.SequenceStartEvent):
            node: Node = self._list(span, depth)
        elif self._sheet.text.startswith("{{", span.start):
            node = self._unquoted_template(span, depth)
        else:
            node = self._mapping(span, depth)
        self.reading.opened.pop()
        return node

    def _check_tag(self, event: Any, span: Span) -> None:
        if isinstance(event, yaml.ScalarEvent) and event.tag in _STR_TAGS:
            return
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.problems.append(
            Problem(
                f"{tag} is a tag in YAML, and tags mean nothing here",
                span.place(),
                "remove it; or quote the value, if it is text that begins with !",
            )
        )

    def _scalar(self, event: Any, span: Span) -> ScalarNode:
        properties = _PROPERTIES.match(self._sheet.text, span.start, span.end)
        start = properties.end() if properties else span.start
        self.reading.last_scalar = span = Span(span.sheet, start, span.end)
        text = event.value.translate(self._restore) if self._restore else event.value
        style = event.style or ""
        is_plain = style == "" and event.tag is None
        return ScalarNode(span, text, resolve_plain(text) if is_plain else text, style)

    def _list(self, span: Span, depth: int) -> ListNode:
        items = []
        event = next(self._events)
        while not isinstance(event, yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            event = next(self._events)
        return ListNode(Span(self._sheet, span.start, self._span(event).end), items)

    def _mapping(self, span: Span, depth: int) -> MapNode:
        entries: dict[str, Entry] = {}
        event = next(self._events)
        while not isinstance(event, yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            node = self._node(next(self._events), depth + 1)
            self._enter(entries, key, node)
            event = next(self._events)
        return MapNode(Span(self._sheet, span.start, self._span(event).end), entries)

    def _unquoted_template(self, span: Span, depth: int) -> ScalarNode:
        """`{{ text }}`, a mapping as a key of a mapping, as the text that was meant."""
        before = len(self.problems)
        span = self._mapping(span, depth).span
        self.problems[before:] = [unquoted_template(span.place())]
        return ScalarNode(span, span.source, span.source)

    def _enter(self, entries: dict[str, Entry], key: Node, node: Node) -> None:
        """Adds one key and its value to a mapping, if the key is what it should be."""
        if not isinstance(key, ScalarNode):
            message, hint = "a key must be text", "quote it, or remove the ? or the brackets"
        elif not key.style and key.text in _BAD_KEYS:
            message, hint = _BAD_KEYS[key.text]
        elif key.text in entries:
            line = entries[key.text].key.place().line
            message = f"the key '{key.text}' stands here a second time, first in line {line}"
            hint = "remove or rename one of them"
        else:
            entries[key.text] = Entry(key.span, node)
            return
        self.problems.append(Problem(message, key.span.place(), hint))

    def _alias(self, anchor: Any, span: Span, depth: int) -> Node:
        node = self._anchors.get(anchor)
        if node is not None:
            return self._copy(node, span, depth)
        if anchor in self._anchors:
            raise _UnreadableError(
                f"*{anchor} stands inside of the value that it names",
                span,
                "write out what is meant: a value cannot contain itself",
            )
        raise _UnreadableError(
            f"no value is named &{anchor}",
            span,
            "quote the value, if it is text that begins with *",
        )

    def _copy(self, node: Node, alias: Span, depth: int) -> Node:
        """The node once more, so that no two parts of a spec share a value."""
        _check_depth(alias, depth)
        self._aliased_nodes += 1
        if self._aliased_nodes > MAX_ALIASED_NODES:
            raise _UnreadableError(
                f"aliases blow this file up to more than {MAX_ALIASED_NODES:,} values",
                alias,
                "name smaller values, or write them out",
            )
        if isinstance(node, ListNode):
            return ListNode(node.span, [self._copy(item, alias, depth + 1) for item in node.items])
        if isinstance(node, MapNode):
            entries = {
                name: Entry(entry.key, self._copy(entry.node, alias, depth + 1))
                for name, entry in node.entries.items()
            }
            return MapNode(node.span, entries)
        return node


def _check_depth(span: Span, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _UnreadableError(
            f"nested more than {MAX_DEPTH} levels deep", span, "no part of a spec is so deep"
        )
