"""One reply as its extractors share it: the JSON in it is found once, not once a field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.extract.json_finder import json_values

MOST_CHARACTERS = 4_000_000
"""Longer replies are not searched. No model writes so much; a broken server does."""


class ReplyText:
    """The text of a reply, with the JSON values in it as far as they were asked for."""

    __slots__ = ("_complaint", "_found", "_unread", "patient", "row", "text")

    def __init__(
        self, text: str, *, patient: bool = True, row: Callable[[], dict[str, Any]] = dict
    ) -> None:
        """A reply.

        Args:
            text: what the model said.
            patient: whether a search in it may take its whole time, or else raises TakesLong.
            row: gives the row that it is about, with the fields so far, for who asks.
        """
        self.text = text
        self.patient = patient
        self.row = row
        self._found: list[Any] = []
        self._unread: Iterator[Any] | None = None
        self._complaint = "there is no JSON value in the reply"

    @property
    def searchable(self) -> str:
        """The text, for searching in it. Invalid if it is too long for that."""
        if len(self.text) > MOST_CHARACTERS:
            raise Invalid(f"the reply is longer than {MOST_CHARACTERS:,} characters")
        return self.text

    def json_value(self, wanted: type | None = None) -> Any:
        """The first JSON value that is a `wanted`; the first of all if none is.

        So a citation such as [1] does not stand in the way of the object after it. `wanted` is
        dict, list or None for any value.

        Raises:
            Invalid: there is no whole JSON value in the reply.
        """
        for value in self._found:
            if wanted is None or isinstance(value, wanted):
                return value
        while self._find_next():
            value = self._found[-1]
            if wanted is None or isinstance(value, wanted):
                return value
        if not self._found:
            raise Invalid(self._complaint)
        return self._found[0]

    def _find_next(self) -> bool:
        if self._unread is None:
            self._unread = json_values(self.searchable)
        try:
            self._found.append(next(self._unread))
        except StopIteration:
            return False
        except Invalid as complaint:  # told to every extractor that asks, not only to the first
            self._complaint = str(complaint)
            return False
        return True
