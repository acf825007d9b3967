"""The command line, in this process: its words and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gptflow.cli.main import main
from tests.project import SPEC


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


Gptflow = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with SPEC and its three reviews, and without any key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "spec.yaml").write_text(SPEC)
    rows = ('{"id": 1, "text": "good"}', '{"id": 2, "text": "bad"}', '{"id": 3, "text": "fine"}')
    (tmp_path / "reviews.jsonl").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def gptflow(folder: Path, capsys: pytest.CaptureFixture[str]) -> Gptflow:
    """Runs a command in the folder."""
    del folder

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return run
