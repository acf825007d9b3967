"""What hooks may give: values that JSON has, and nothing that only looks like them."""

from __future__ import annotations

import math
from typing import Any

from gptflow.pipeline.extract.invalid import listed, shown

MAX_DEPTH = 200
"""Lists and dicts inside of each other: each takes two frames of Python's thousand here."""
MOST_DIGITS = 4_300
"""Of an integer: Python writes and reads no longer ones."""
MOST_BITS = 14_284
"""What has no more has no more digits than that."""


class NotJson(Exception):
    """A value that JSON does not have. `str()` is what it is and where."""


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """A value of its own, as JSON has it: tuples become lists, members of subclasses plain ones.

    Raises:
        NotJson: it holds something else, or is nested without end.
    """
    if isinstance(value, list | tuple | dict):
        return _plain_container(value, where, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enum, too
    if isinstance(value, int):
        if int(value).bit_length() > MOST_BITS:
            raise NotJson(
                _told(f"an integer of more than {MOST_DIGITS:,} digits", where, "is too long")
            )
        return int(value)
    if not isinstance(value, float):
        raise NotJson(_told(a_kind(value), where))
    if not math.isfinite(value):
        raise NotJson(_told(f"the number {float(value)}", where))
    return float(value)


def _plain_container(value: Any, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotJson(f"a value nested more than {MAX_DEPTH} levels deep")
    if not isinstance(value, dict):
        items: list[Any] = []
        for item in value:  # a comprehension would take one frame more
            items += (plain(item, f"{where}[{len(items)}]", depth + 1),)
        return items
    members: dict[str, Any] = {}
    for key, member in value.items():
        name = _name(key, where)
        if name in members:
            raise NotJson(_told(f"a dict with two keys that are the text {name!r:.80}", where))
        members[name] = plain(member, f"{where}.{name}", depth + 1)
    return members


def own_copy(value: Any) -> Any:
    """A copy of a JSON value, down to its last list: whoever gets it may write into it."""
    if type(value) is dict:
        members = {}
        for name, member in value.items():
            members[name] = own_copy(member)
        return members
    if type(value) is list:
        items: list[Any] = []
        for item in value:
            items += (own_copy(item),)
        return items
    return value


def fields_of(given: Any, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a step in their order, as its hook gives them.

    Raises:
        NotJson: it is no dict of exactly these fields.
    """
    if not isinstance(given, dict):
        raise NotJson(f"{a_kind(given)}, expected a dict with {listed(list(wanted))}")
    missing = [name for name in wanted if name not in given]
    other = [str(name) for name in given if name not in wanted]
    if missing or other:
        what = [f"no {listed(missing)}"] if missing else []
        what += [f"also {listed([shown(name) for name in other])}"] if other else []
        raise NotJson(f"a dict with {' and '.join(what)}, expected {listed(list(wanted))}")
    return {name: plain(given[name], name) for name in wanted}


def rows_of(given: Any) -> list[dict[str, Any]]:
    """The rows that a transform gives for a record: none, one, or as many as the list has.

    Raises:
        NotJson: it is no row, list of rows or None.
    """
    if given is None:
        return []
    rows = given if isinstance(given, list | tuple) else [given]
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            where = f" at [{at}] of its list" if isinstance(given, list | tuple) else ""
            raise NotJson(f"{a_kind(row)}{where}, expected a row (dict), a list of rows or None")
    return [plain(row) for row in rows]


def a_kind(value: object) -> str:
    """A value by its type, for a message."""
    names = {str: "text", bool: "true or false", type(None): "nothing (None)"}
    name = type(value).__name__
    return names.get(type(value)) or f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _name(name: Any, where: str) -> str:
    if isinstance(name, str) and not any("\ud800" <= letter <= "\udfff" for letter in name):
        return str.__str__(name)  # of a member of an enum, too
    raise NotJson(_told(f"a dict with the key {name!r:.80}, which is no text", where))


def _told(what: str, where: str, why: str = "JSON does not have") -> str:
    return f"{what} in {where.removeprefix('.')}, which {why}" if where else what
