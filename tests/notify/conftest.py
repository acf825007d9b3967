"""A Lark endpoint on loopback, and no hook of the machine's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lark_server import LarkServer


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a hook of the machine comes between the tests and their endpoint."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "LARK_HOOK", "LARK_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def lark() -> Iterator[LarkServer]:
    with LarkServer() as server:
        yield server
