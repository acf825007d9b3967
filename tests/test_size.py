"""The measures of the house style. An exception is listed here by name, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import gptflow

PACKAGE = Path(gptflow.__file__).parent
FILE_LINES = 400
FUNCTION_LINES = 50

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its length, docstring excluded."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                docstring = len((ast.get_docstring(node) or "").splitlines())
                name = f"{path.relative_to(PACKAGE)}:{node.name}"
                yield name, node.end_lineno - node.lineno + 1 - docstring


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name for name, size in sizes.items() if size > FILE_LINES} == set(LONG_FILES)


def test_no_function_is_longer_than_a_screen() -> None:
    long = {name for name, size in functions() if size > FUNCTION_LINES}
    assert long == set(LONG_FUNCTIONS)


def test_functions_are_short_in_the_mean() -> None:
    sizes = [size for _, size in functions()]
    assert sum(sizes) / len(sizes) <= 12
