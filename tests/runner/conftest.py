"""A folder with a spec and data, and what the parts of a run need of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.runner.prepare import Prepared, prepare
from gptflow.runner.server import ServerChoice
from gptflow.store.store import Store

SPEC = """\
name: reviews
vars: {labels: [good, bad]}
source: {path: rows.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label {{ text }}."
    extract: {label: {choice: "{{ labels }}"}}
  - name: apology
    when: label == 'bad'
    prompt: "Apologise for {{ text }}."
    extract: {apology: text}
output: {path: out.jsonl}
"""


class Folder:
    """The working directory of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_rows(self, *rows: dict[str, Any], name: str = "rows.jsonl") -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.path / name).write_text(text)

    def write_texts(self, *texts: str) -> None:
        """Rows with the one column `text`."""
        self.write_rows(*({"text": text} for text in texts))

    def prepare(self, spec: str = SPEC, *, mock: bool = True, **values: Any) -> Prepared:
        """The spec with these values, such as source__id="text"."""
        (self.path / "spec.yaml").write_text(spec)
        dotted = {name.replace("__", "."): value for name, value in values.items()}
        return prepare("spec.yaml", ServerChoice(mock=True) if mock else None, values=dotted)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    made = Folder(tmp_path)
    made.write_texts("one", "two", "three")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".gptflow" / "reviews.db") as opened:
        yield opened
