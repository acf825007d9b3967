"""docs/safety.md names the test of every promise, and no test is left out."""

from __future__ import annotations

import re

from .conftest import ROOT


def test_the_promises_of_the_page_are_those_that_are_tested() -> None:
    page = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests/faults/test_untrusted.py").read_text(encoding="utf-8")
    written = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", page)) == written
