from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.cli.conftest import Gptflow

GOOD, SPENT, UNKNOWN = (f"sk-{name}-0123456789abcdef" for name in ("good", "spent", "unknown"))


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    scenario = {
        "keys": {GOOD: {"rpm": 600, "tpm": 90_000}, SPENT: {"failure": "insufficient_quota"}},
        "unknown_keys": "refuse",
        "models": ["gpt-4o-mini"],
    }
    with MockServer(Scenario.model_validate(scenario)) as server:
        yield server.base_url


def write(folder: Path, base_url: str, **keys: str) -> Path:
    listed = [{"name": name, "api_key": key, "base_url": base_url} for name, key in keys.items()]
    path = folder / "config.json"
    path.touch(0o600)
    path.write_text(json.dumps({"key_list": listed}))
    return path


def test_keys_that_all_work_are_exit_code_0(gptflow: Gptflow, folder: Path, base_url: str) -> None:
    write(folder, base_url, main=GOOD)
    said = gptflow("keys", "--ask", "gpt-4o-mini")

    host = re.escape(base_url.removeprefix("http://").removesuffix("/v1"))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("config.json: 1 key, 1 works\n\n  name  key ")
    assert re.search(rf"\n  main  …cdef  {host}  works  1 +600 requests, 90k tokens\n", said.out)


def test_a_key_that_does_not_work_is_exit_code_1_and_told_why(
    gptflow: Gptflow, folder: Path, base_url: str
) -> None:
    write(folder, base_url, main=GOOD, typo=UNKNOWN, other=UNKNOWN[:-1] + "0")
    said = gptflow("keys")

    assert said.code == 1
    assert said.out.startswith("config.json: 3 keys, 1 works\n")
    assert re.search(r"\n  typo +…cdef +\S+  invalid\n", said.out)
    assert "\ntypo: Incorrect API key provided" in said.out
    assert 'Hint: check "api_key"' in said.out
    assert "next: gptflow keys --ask MODEL" in said.out
    assert GOOD not in said.out
    assert UNKNOWN not in said.out


def test_a_reason_that_several_keys_share_is_told_once(
    gptflow: Gptflow, folder: Path, base_url: str
) -> None:
    write(folder, f"{base_url}/wrong", one=GOOD, two=SPENT)
    said = gptflow("keys")

    assert said.out.count("\none, two: Invalid URL") == 1
    assert "next:" not in said.out


def test_asking_shows_a_spent_quota(gptflow: Gptflow, folder: Path, base_url: str) -> None:
    write(folder, base_url, main=GOOD, old=SPENT)
    said = gptflow("keys", "--ask", "gpt-4o-mini")

    assert said.code == 1
    assert re.search(r"\n  old +…cdef +\S+  spent ", said.out)
    assert "Hint: pay in credit, or add another key" in said.out


def test_json_has_a_record_for_each_key(gptflow: Gptflow, folder: Path, base_url: str) -> None:
    path = write(folder, base_url, main=GOOD, typo=UNKNOWN)
    said = gptflow("keys", "--json", "--config", str(path))

    good, bad = json.loads(said.out)
    assert said.code == 1
    assert (good["name"], good["works"], good["state"], good["models"]) == (
        "main",
        True,
        "works",
        1,
    )
    assert (bad["works"], bad["state"], bad["hint"]) == (False, "invalid", 'check "api_key"')
    assert GOOD not in said.out


def test_a_bad_config_is_exit_code_2(gptflow: Gptflow, folder: Path) -> None:
    (folder / "config.json").write_text('{"key_list": [{"api_kye": "sk-a"}]}')
    said = gptflow("keys")

    assert (said.code, said.out) == (2, "")
    assert "config.json:1:16: key_list[0].api_kye is no key of this file" in said.err
    assert "Hint: did you mean 'api_key'?" in said.err


def test_without_any_key_there_is_a_way_on(gptflow: Gptflow) -> None:
    said = gptflow("keys")

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("no config.json here and no OPENAI_API_KEY\nHint: write ")


def test_the_key_of_the_environment_is_asked(
    gptflow: Gptflow, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", GOOD)
    monkeypatch.setenv("OPENAI_BASE_URL", base_url)
    said = gptflow("keys")

    assert said.code == 0
    assert said.out.startswith("OPENAI_API_KEY: 1 key, 1 works\n")


def test_a_note_on_the_file_goes_to_stderr(gptflow: Gptflow, folder: Path, base_url: str) -> None:
    write(folder, base_url, main=GOOD).chmod(0o644)
    said = gptflow("keys", "--json")

    assert json.loads(said.out)
    assert said.err.endswith("(mode 644); chmod 600 config.json\n")
