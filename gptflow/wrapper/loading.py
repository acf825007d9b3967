"""Loads what a wrapper needs for its calls, in a thread that stays."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptflow.wrapper.settings import Settings
    from gptflow.wrapper.shared_engine import SharedEngine


def shared_engine(settings: Settings) -> SharedEngine:
    """The engine for a wrapper. Loads what it takes, if this is the first one."""
    if threading.current_thread() is not threading.main_thread() and "pyreqwest" not in sys.modules:
        _load_in_a_thread_that_stays()
    from gptflow.wrapper.shared_engine import SharedEngine

    return SharedEngine(settings)


def _load_in_a_thread_that_stays() -> None:
    """Loads the engine.

    The allocator in pyreqwest takes the thread that loads it for the main one. When that thread
    ends its memory goes with it, and the next client brings the whole process down.
    """
    is_loaded = threading.Event()

    def stay() -> None:
        try:
            import_module("gptflow.wrapper.shared_engine")
        finally:
            is_loaded.set()
        threading.Event().wait()

    threading.Thread(target=stay, name="gptflow-load", daemon=True).start()
    is_loaded.wait()
