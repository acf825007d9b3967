from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tests.cli.conftest import Gptflow


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_starter_is_copied_and_each_file_is_named(gptflow: Gptflow, folder: Path) -> None:
    said = gptflow("init", "demo")
    starter = Path(str(files("gptflow.cli") / "starter"))
    assert said.code == 0
    assert content(folder / "demo") == content(starter)
    assert {line.strip() for line in said.out.splitlines()[:-1]} == {
        f"demo/{name}" for name in content(starter)
    }


def test_what_it_says_next_works(
    gptflow: Gptflow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = gptflow("init", "demo")
    assert said.out.splitlines()[-1] == "next: cd demo && gptflow run pipeline.yaml --mock"
    monkeypatch.chdir(folder / "demo")
    assert gptflow("validate", "pipeline.yaml").code == 0
    said = gptflow("run", "pipeline.yaml", "--mock")
    assert said.code == 0
    rows = len(Path("data/messages.jsonl").read_text().splitlines())
    assert f"done {rows}, failed 0" in said.out


def test_without_a_folder_it_is_made_here(gptflow: Gptflow, folder: Path) -> None:
    said = gptflow("init")
    assert said.code == 0
    assert said.out.splitlines()[-1] == "next: gptflow run pipeline.yaml --mock"
    assert (folder / "pipeline.yaml").is_file()


def test_no_file_is_overwritten_and_none_is_made_beside_it(gptflow: Gptflow, folder: Path) -> None:
    (folder / "demo").mkdir()
    (folder / "demo/pipeline.yaml").write_text("mine")
    said = gptflow("init", "demo")
    assert said.code == 2
    assert said.err == "already there: demo/pipeline.yaml\nHint: gptflow init ANOTHER_FOLDER\n"
    assert content(folder / "demo") == {"pipeline.yaml": b"mine"}


def test_a_folder_that_cannot_be_made(gptflow: Gptflow) -> None:
    assert gptflow("init", "spec.yaml").code == 2
    said = gptflow("init", "spec.yaml/demo")
    assert said.code == 2
    assert "cannot be written: Not a directory" in said.err
