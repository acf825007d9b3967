from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Page:
    """A page of documentation, with the blocks of code in it."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """The code of each block in a language, without the indentation of a list around it."""
        fences = re.finditer(
            rf"^( *)```{language}\n(.*?)^ *```$", self.text, re.DOTALL | re.MULTILINE
        )
        return [
            re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
            for indent, code in (fence.groups() for fence in fences)
        ]


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def readme() -> Page:
    return Page(ROOT / "README.md")
