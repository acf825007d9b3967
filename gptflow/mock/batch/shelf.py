"""The files of the simulated server, each of which only its organization sees."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import msgspec


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was uploaded, or that a batch has written."""

    id: str
    owner: str
    purpose: str
    name: str
    content: bytes | bytearray
    created_at: int
    """Unix time."""
    expires_at: int | None
    lines: int

    def wire(self) -> dict[str, Any]:
        """The file as the API tells it."""
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.name,
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "status": "processed",
            "status_details": None,
        }


def line_count(content: bytes | bytearray) -> int:
    """How many lines there are, an unended last one included."""
    return content.count(b"\n") + bool(content) - content.endswith(b"\n")


class Owned(Protocol):
    """What lies on a shelf."""

    @property
    def id(self) -> str:
        """Its name in the API."""

    @property
    def owner(self) -> str:
        """The organization that it belongs to, or the key where that has none."""


Thing = TypeVar("Thing", bound=Owned)


class Shelf(Generic[Thing]):
    """Things by their ids. To another owner they are not there."""

    def __init__(self, prefix: str) -> None:
        """`prefix`: what all ids begin with; it has to differ from server to server."""
        self._prefix = prefix
        self._numbers = count(1)
        self._things: dict[str, Thing] = {}

    def new_id(self) -> str:
        """An id that nothing has yet."""
        return f"{self._prefix}{next(self._numbers):06x}"

    def put(self, thing: Thing) -> Thing:
        """Lay it there."""
        self._things[thing.id] = thing
        return thing

    def get(self, owner: str, thing_id: str) -> Thing | None:
        """The thing with this id, if it is the owner's."""
        thing = self._things.get(thing_id)
        return thing if thing is not None and thing.owner == owner else None

    def take_away(self, thing: Thing) -> None:
        """Forget it."""
        self._things.pop(thing.id, None)

    def of(self, owner: str) -> list[Thing]:
        """All that the owner has, oldest first."""
        return [thing for thing in self._things.values() if thing.owner == owner]

    def all(self) -> Iterable[Thing]:
        """All of all owners, oldest first."""
        return list(self._things.values())
