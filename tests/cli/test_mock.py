from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.mock.scenario import Scenario
from tests.cli.conftest import Gptflow


def ask(base_url: str, prompt: str) -> str:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    headers = {"Authorization": "Bearer sk-any", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_ends_well(folder: Path, number: int) -> None:
    (folder / "scenario.yaml").write_text("reply: {template: 'You said: {{ user }}'}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "gptflow", "mock", "scenario.yaml", "--port", "0", "--log", "log"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    announced, config = process.stdout.readline(), process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/v1", announced)
    assert found
    assert json.loads(config)["key_list"][0]["base_url"] == found[0]
    assert ask(found[0], "hello") == "You said: hello"
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
    assert json.loads((folder / "log").read_text())["user"] == "hello"


def test_the_config_that_it_names_has_a_key_that_it_serves(folder: Path) -> None:
    keys = "{sk-dead: {failure: invalid_api_key}, sk-one: {rpm: 60}}"
    (folder / "scenario.yaml").write_text(f"keys: {keys}\nunknown_keys: refuse\n")
    with subprocess.Popen(
        [sys.executable, "-m", "gptflow", "mock", "scenario.yaml", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        config = process.stdout.readline()
        process.terminate()
    assert json.loads(config)["key_list"][0]["api_key"] == "sk-one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.yaml",), "none.yaml: No such file or directory"),
        ((".",), "Is a directory"),
        (("--host", "0.0.0.0"), "0.0.0.0 is not a loopback address"),
        (("--port", "99999"), "99999 is not in the range"),
        (("--port", "0", "--log", "none/log"), "none/log: the log cannot be written"),
    ],
)
def test_what_cannot_be_served(gptflow: Gptflow, arguments: tuple[str, ...], words: str) -> None:
    said = gptflow("mock", *arguments)
    assert (said.code, said.out) == (2, "")
    assert words in said.err


def test_the_failures_are_listed_by_name_and_status(gptflow: Gptflow) -> None:
    said = gptflow("mock", "--list")
    assert (said.code, said.err) == (0, "")
    found = re.findall(r"^  (\w+) +(\S+) +\S", said.out, re.MULTILINE)
    assert found == [(f.name, f.shown_status) for f in CATALOGUE.values()]


def test_help_names_each_part_of_a_scenario(gptflow: Gptflow) -> None:
    said = gptflow("mock", "--help").out
    assert [name for name in Scenario.model_fields if name not in said] == ["unknown_keys"]
