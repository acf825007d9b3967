"""The guide to keys: its config is read, and its numbers are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gptflow.engine import account, caller, engine, outage, probe, route, tries, watch, window
from gptflow.engine.config import load_config
from gptflow.engine.config_file import KeyItem
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.spec.model import LimitsSpec
from gptflow.spec.notify import NotifySpec

from .conftest import Page
from .test_readme import without_numbers

NAMES = ("OPENAI_API_KEY", "SECOND_API_KEY", "GATEWAY_KEY", "GATEWAY_TOKEN")
KEYS = {
    "sk-good-1111111111111111": {"rpm": 600, "tpm": 90_000},
    "sk-spent-222222222222222": {"failure": "insufficient_quota"},
    "sk-wrong-33333333333333333": {"failure": "invalid_api_key"},
}


@pytest.fixture
def guide(root: Path) -> Page:
    return Page(root / "docs" / "keys.md")


def test_the_config_of_the_guide_is_read_without_a_note(guide: Page, tmp_path: Path) -> None:
    (text,) = guide.blocks("jsonc")
    path = tmp_path / "config.json"
    path.write_text(text)
    config = load_config(path, {name: f"sk-{name.lower()}-0123456789" for name in NAMES})
    assert [key.name for key in config.keys] == ["main", "careful", "gateway", "own"]
    assert config.notes == ()


def test_every_field_of_a_key_is_explained(guide: Page) -> None:
    table = guide.text.partition("| field | what to know |")[2].partition("\n\n")[0]
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)))
    assert set(told) == {"key_index", *KeyItem.model_fields}


def test_the_volumes_for_kubernetes_are_yaml(guide: Page) -> None:
    (text,) = guide.blocks("yaml")
    pod = yaml.safe_load(text)
    assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]
    assert "/etc/gptflow/config.json" in guide.text


def test_what_is_shown_of_the_keys_is_what_the_command_prints(guide: Page, tmp_path: Path) -> None:
    (block,) = guide.blocks("console")
    command, _, shown = block.removeprefix("$ gptflow ").partition("\n")
    scenario = {"keys": KEYS, "unknown_keys": "refuse", "models": ["gpt-4o-mini"]}
    with MockServer(Scenario.model_validate(scenario)) as server:
        names = ("main", "old", "wrong")
        entries = [
            {"name": name, "api_key": key, "base_url": server.base_url}
            for name, key in zip(names, KEYS, strict=True)
        ]
        (tmp_path / "config.json").touch(0o600)
        (tmp_path / "config.json").write_text(json.dumps({"key_list": entries}))
        done = subprocess.run(
            [sys.executable, "-m", "gptflow", *command.split()],
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, "")
    assert squeezed(done.stdout) == squeezed(shown)


def squeezed(text: str) -> list[str]:
    """Its lines without numbers: ports differ in length, and the columns with them."""
    return [" ".join(line.split()) for line in without_numbers(text)]


def test_the_numbers_are_those_of_the_code(guide: Page) -> None:
    text = " ".join(guide.text.split())
    told = [
        f"rests for {1:g} s; after several refusals in a row up to {account.LONGEST_GUESS_S:g} s",
        f"of up to {caller.FIRST_BACKOFF_S:g} s, 1 s, 2 s ... {caller.LONGEST_BACKOFF_S:g} s",
        f"up to {caller.LONGEST_NAMED_WAIT_S / 60:g} minutes",
        f"`limits.attempts`, {LimitsSpec().attempts} if not given",
        f"the last {tries.LONGEST_HISTORY} attempts in its `history`",
        f"after {outage.FIRST_PROBE_S:g} s, 2 s, 4 s, then every",
        f"up to every {outage.LONGEST_PROBE_S:g} s",
        f"`notify.lark.base_wait_s` ({NotifySpec().base_wait_s:g} s)",
        f"at most {engine.MOST_IN_FLIGHT:,} for all keys",
        f"with up to {window.Window().size} calls at a time",
        f"begins with {account.Account().admits} calls",
        f"may take {route.LONGEST_CONNECTING_S:g} s",
    ]
    assert [words for words in told if words not in text] == []
    assert watch.POLL_S < 5
    assert probe.WORKS in text
