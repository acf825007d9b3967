"""A text that must not be seen: an API key."""

from __future__ import annotations

import re
from typing import NoReturn

_SHORTEST_TO_SHOW = 16
"""Below this the last four characters would give away too much of the whole."""
_SHORTEST_TO_SCRUB = 3
"""Below this it would be found in half of all texts."""
_SHORTEST_TO_FIND = 8
"""Below this it is looked for as a word of its own only: it may be a part of an ordinary one."""
_NO_KEY = re.compile(
    "any(thing)?|dummy|empty|fake|key|local|na|no[-_]?key|none(-needed)?|not-needed|null|ollama"
    "|true|false|unused|vllm",
    re.IGNORECASE,
)
"""What people write where a server asks for no key; and they stand in messages for themselves."""


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
        word = self._text
        if len(word) < _SHORTEST_TO_SCRUB or _NO_KEY.fullmatch(word):
            return text
        if len(word) < _SHORTEST_TO_FIND:
            return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", str(self), text)
        return text.replace(word, str(self))

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
