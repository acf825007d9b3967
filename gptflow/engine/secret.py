"""A text that must not be seen: an API key."""

from __future__ import annotations

from typing import NoReturn

_SHORTEST_TO_SHOW = 16
"""Below this the last four characters would give away too much of the whole."""
_SHORTEST_TO_SCRUB = 8
"""Below this a key is a placeholder such as "none", and a word of ordinary text."""


class Secret:
    """A text that prints as its last four characters, and that cannot be pickled.

    Only `reveal()` gives the text. A process that needs it loads its own configuration: in a
    pickle it could end in a queue's file, an object store or a crash report.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def scrub(self, text: str) -> str:
        """`text` with the secret masked wherever it occurs: some proxies echo the key."""
        if len(self._text) < _SHORTEST_TO_SCRUB:
            return text
        return text.replace(self._text, str(self))

    def __str__(self) -> str:
        return f"…{self._text[-4:]}" if len(self._text) >= _SHORTEST_TO_SHOW else "…"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; load the configuration where it is needed")
