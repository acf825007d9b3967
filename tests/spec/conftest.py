from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptflow.spec.load import read_spec
from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem

Problems = Callable[..., list[Problem]]
Load = Callable[..., Spec]

MINIMAL = """\
name: tiny
source: {range: 3}
model: {name: gpt-4o-mini}
steps:
  - name: ask
    prompt: Tell a story.
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project: where the spec stands and where the command runs."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reviews.jsonl").write_text('{"text": "fine"}\n')
    (tmp_path / "prompts").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def problems() -> Problems:
    """What is wrong with a text, read as label.yaml; arguments are those of read_spec."""

    def problems_of(text: str | bytes = MINIMAL, **arguments: Any) -> list[Problem]:
        content = text if isinstance(text, bytes) else text.encode()
        Path("label.yaml").write_bytes(content)
        return read_spec("label.yaml", environ={}, **arguments).problems

    return problems_of


@pytest.fixture
def load() -> Load:
    """The spec of a text that has no problems."""

    def spec_of(text: str = MINIMAL, environ: dict[str, str] | None = None, **rest: Any) -> Spec:
        Path("label.yaml").write_text(text, newline="")
        draft = read_spec("label.yaml", environ=environ or {}, **rest)
        assert draft.problems == []
        assert draft.spec is not None
        return draft.spec

    return spec_of


@pytest.fixture
def minimal() -> str:
    return MINIMAL
