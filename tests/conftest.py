"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy one is no fault of an example
settings.load_profile("any machine")


def pytest_configure() -> None:
    """A script's `&` has its commands ignore Ctrl-C, and they would hand that on to ours."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
