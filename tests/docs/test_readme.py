from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gptflow.cli.main import VERBS
from gptflow.engine.config import load_config
from tests.wrapper.desk import desk_at

if TYPE_CHECKING:
    from .conftest import Page

BIN = str(Path(sys.executable).parent)
HIDDEN = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONDONTWRITEBYTECODE")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in HIDDEN},
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "COLUMNS": "100",
}


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command as a user types it; stderr comes with stdout."""
    return subprocess.run(
        ["bash", "-c", command],
        check=False,
        cwd=folder,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )


def rehearsed(command: str) -> str:
    """The command as it is, or with --mock where it would ask somebody."""
    command, _, _ = command.partition("  #")
    asks = command.startswith("gptflow run ") and "--mock" not in command
    return f"{command} --mock" if asks else command


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The folder that `gptflow init demo` makes."""
    assert shell("gptflow init demo", tmp_path).returncode == 0
    return tmp_path / "demo"


def test_the_first_commands_work_in_an_empty_folder(readme: Page, tmp_path: Path) -> None:
    block = next(block for block in readme.blocks("sh") if "gptflow init" in block)
    commands = [line for line in block.splitlines() if line.startswith("gptflow")]
    done = shell(" && ".join(commands), tmp_path)
    assert done.returncode == 0, done.stdout


def test_each_verb_s_example_works(readme: Page, demo: Path) -> None:
    block = next(block for block in readme.blocks("sh") if "gptflow validate" in block)
    for command in map(rehearsed, block.splitlines()):
        if not command.startswith("gptflow mock"):  # it serves until Ctrl-C
            done = shell(command, demo)
            assert done.returncode == 0, f"{command}\n{done.stdout}"


def test_every_verb_has_an_example(readme: Page) -> None:
    examples = "\n".join(readme.blocks("sh"))
    assert [verb for verb in VERBS if f"gptflow {verb}" not in examples] == []


def test_what_is_shown_of_a_command_is_what_it_prints(readme: Page, demo: Path) -> None:
    for block in readme.blocks("console"):
        command, _, shown = block.removeprefix("$ ").partition("\n")
        done = shell(command, demo)
        assert without_numbers(done.stdout) == without_numbers(shown)


def without_numbers(text: str) -> list[str]:
    """The lines of a text, with # for each number: times differ from run to run."""
    return re.sub(r"\d[\d,.]*", "#", text).strip().splitlines()


def test_each_spec_is_valid_and_runs(readme: Page, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "pipelines" / "data", tmp_path / "data")
    for spec in readme.blocks("yaml"):
        name = spec.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(spec)
        done = shell(f"gptflow run {name} --mock --quiet --json", tmp_path)
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["done"] > 0


def test_the_python_works(readme: Page, demo: Path) -> None:
    (code,) = (block for block in readme.blocks("python") if "load_spec" in block)
    (demo / "example.py").write_text(code)
    done = shell("python -W error example.py", demo)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\n") == 5, done.stdout


def test_the_wrapper_s_example_works(readme: Page, tmp_path: Path) -> None:
    (code,) = (block for block in readme.blocks("python") if "GPTWrapper" in block)
    with desk_at(tmp_path) as desk:
        assert desk.run(code) == "Hello!\n"
    assert desk.entries[0].model == "gpt-3.5-turbo"


def test_the_config_is_one_that_gptflow_reads(readme: Page, tmp_path: Path) -> None:
    (text,) = readme.blocks("jsonc")
    path = tmp_path / "config.json"
    path.write_text(text)
    keys = {"OPENAI_API_KEY": "sk-first", "SECOND_API_KEY": "sk-second"}
    config = load_config(path, keys)
    assert [key.name for key in config.keys] == ["main", "second", "own"]
    assert config.notes == ()


def test_every_target_of_make_that_is_named_exists(readme: Page, root: Path) -> None:
    targets = re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"\bmake (\w+)", "\n".join(readme.blocks("sh")))
    assert "test" in named
    assert set(named) <= set(targets)
