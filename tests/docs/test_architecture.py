from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(page: str, title: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    text = page.partition(f"\n## {title}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_rooms_are_those_that_imports_are_held_to(page: str, root: Path) -> None:
    allowed = runpy.run_path(str(root / "tests" / "test_layers.py"))["ALLOWED"]
    seen: list[str] = []
    rooms = {}
    for room, imports, _ in section(page, "The rooms"):
        rooms[room] = set(seen) if imports == "all above" else set(re.findall(r"\w+", imports))
        seen.append(room)
    assert rooms == allowed


def test_every_dependency_has_its_reason(page: str, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    declared = {re.split(r"[^\w-]", name)[0] for name in (*project["dependencies"], *extras)}
    explained = {row[0].split(" ")[0] for row in section(page, "Dependencies")}
    assert explained == declared


def test_every_file_that_is_named_exists(page: str, root: Path) -> None:
    files = re.findall(r"`((?:gptflow|tests|benchmarks)/[\w./]+|spec/[\w.]+)`", page)
    assert files
    assert [f for f in files if not any((root / p / f).is_file() for p in ("", "gptflow"))] == []
