"""The kind of event loop to work in: uvloop where it exists, which saves CPU on every call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a new loop."""
    try:
        import uvloop
    except ImportError:  # Windows has no uvloop
        return asyncio.new_event_loop
    return uvloop.new_event_loop
