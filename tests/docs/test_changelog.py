from __future__ import annotations

import re
from pathlib import Path

from gptflow import __version__


def test_the_newest_version_of_the_changelog_is_the_package_s(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)[0] == __version__
