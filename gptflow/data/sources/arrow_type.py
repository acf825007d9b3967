"""The types of Arrow in words: what of a column a row can hold, and what it comes to in JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gptflow.data.arrow import load_arrow
from gptflow.data.excerpt import short

IsType = Callable[[Any], bool]

_EXTENSIONS = {"arrow.json": "JSON", "arrow.uuid": "text", "arrow.bool8": "true or false"}
_OF_ANOTHER_SHAPE = frozenset(("arrow.fixed_shape_tensor", "arrow.variable_shape_tensor"))
"""They are stored as one flat list, and would come out as that."""


class ArrowTypes:
    """Tells types apart."""

    def __init__(self) -> None:
        self._arrow = load_arrow()
        types = self._arrow.types
        self.is_text = _any(types.is_string, types.is_large_string, types.is_string_view)
        self.is_list = _any(
            types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view
        )
        times = (types.is_timestamp, types.is_date, types.is_time, types.is_duration)
        self._words: list[tuple[IsType, str]] = [
            (types.is_null, "nothing"),
            (types.is_boolean, "true or false"),
            (_any(types.is_integer, types.is_floating, types.is_decimal), "numbers"),
            (_any(types.is_struct, types.is_map), "objects"),
            (self.is_list, "lists"),
            (_any(self.is_text, *times), "text"),
        ]

    def word(self, kind: Any) -> str | None:
        """What the values are in JSON; None where nothing in JSON is like them."""
        if self._arrow.types.is_dictionary(kind):
            return self.word(kind.value_type)
        if not isinstance(kind, self._arrow.BaseExtensionType):
            return next((word for is_type, word in self._words if is_type(kind)), None)
        if kind.extension_name in _OF_ANOTHER_SHAPE:
            return None
        return _EXTENSIONS.get(kind.extension_name) or self.word(kind.storage_type)

    def unfit(self, kind: Any) -> str | None:
        """What a row cannot hold of the values, in words; None where it can hold them all."""
        word = self.word(kind)
        if word is None:
            return "bytes" if "binary" in str(kind) else f"values of the type {kind}"
        if word == "lists":
            return self.unfit(kind.value_type)
        if word != "objects":
            return None
        if not self._arrow.types.is_map(kind):
            names = [field.name for field in kind]
            return twice(names) or next(
                filter(None, (self.unfit(each.type) for each in kind)), None
            )
        if not self.is_text(kind.key_type):
            return "a map whose keys are not text"
        return self.unfit(kind.item_type)


def leaf_count(kind: Any) -> int:
    """How many columns a file of Parquet has for a column of this type."""
    inner = getattr(kind, "storage_type", kind)
    if not inner.num_fields:
        return 1
    return sum(leaf_count(inner.field(at).type) for at in range(inner.num_fields))


def twice(names: Sequence[str]) -> str | None:
    """What is wrong with an object of these names, if two of them are the same."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return f"an object with the name '{short(name)}' twice"
        seen.add(name)
    return None


def _any(*tests: IsType) -> IsType:
    return lambda kind: any(is_type(kind) for is_type in tests)
