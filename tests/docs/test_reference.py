from __future__ import annotations

from pathlib import Path

from gptflow.cli.reference import PARTS, REFERENCE_FILE, reference
from gptflow.spec.schema import pipeline_schema


def test_the_reference_is_as_make_docs_would_write_it(root: Path) -> None:
    written = (root / REFERENCE_FILE).read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


def test_no_part_of_the_language_is_left_out() -> None:
    parts = set(pipeline_schema()["$defs"]) - {"FileRef"}  # told where it may stand
    assert parts <= set(PARTS.values())


def test_no_key_and_no_option_is_without_a_word() -> None:
    cells = [line.strip("| ").split(" | ") for line in reference().splitlines() if line[:2] == "| "]
    assert [row[0] for row in cells if not row[-1].strip("` ")] == []
