"""The guide of the library: each of its programs runs as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptflow.mock.server import MockServer
from tests.lark_server import LarkServer


@pytest.fixture
def guide(root: Path) -> str:
    return (root / "docs" / "gptwrapper.md").read_text(encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a config.json that leads to a simulated server, and a hook in LARK_HOOK."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with MockServer() as server, LarkServer() as lark:
        entries = [
            {"api_key": f"sk-desk-{n}", "base_url": server.base_url, "name": f"k{n}"}
            for n in range(2)
        ]
        (tmp_path / "config.json").write_text(json.dumps({"key_list": entries}))
        (tmp_path / "config.json").chmod(0o600)
        monkeypatch.setenv("LARK_HOOK", lark.hook)
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def test_every_example_runs(guide: str, desk: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(examples) > 10
    program = desk / "program.py"
    programs = [example for example in examples if "__main__" in example]
    program.write_text("\n\n".join(example for example in examples if example not in programs))
    for text in (program.read_text(), *programs):
        program.write_text(text)
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            check=False,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout == "['GOOD', 'BAD', 'FINE']\n"
    answers = [json.loads(line) for line in (desk / "answers.jsonl").read_text().splitlines()]
    assert [answer["response"] for answer in answers][3] == "What is 3 squared?"


def test_the_files_that_it_links_to_exist(guide: str, root: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", guide)
    assert links
    assert [link for link in links if not (root / "docs" / link).is_file()] == []
