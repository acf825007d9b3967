"""Long work in slices, between which the server serves others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_SLICE_S = 0.004
_Item = TypeVar("_Item")


async def sliced(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """The items, with a turn for the rest of the loop every few milliseconds."""
    end_s = time.monotonic() + _SLICE_S
    for item in items:
        yield item
        if time.monotonic() > end_s:
            await asyncio.sleep(0)
            end_s = time.monotonic() + _SLICE_S
