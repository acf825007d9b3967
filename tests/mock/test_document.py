from __future__ import annotations

from pathlib import Path

import pytest

from gptflow.errors import ConfigError
from gptflow.mock.document import read_scenario
from gptflow.mock.scenario import Scenario


def _written(folder: Path, text: str) -> Path:
    path = folder / "mock.yaml"
    path.write_text(text)
    return path


def _problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_scenario(_written(folder, text))
    assert caught.value.hint
    return str(caught.value).replace(f"{folder}/", "")


def test_a_file_becomes_a_scenario(tmp_path: Path) -> None:
    scenario = read_scenario(_written(tmp_path, "latency: 50ms\nreply: {one_of: [yes, no]}\n"))
    assert scenario.latency.fixed == 0.05
    assert scenario.reply[0].one_of == ["yes", "no"]


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert read_scenario(_written(tmp_path, "# nothing\n")) == Scenario()


def test_the_log_stands_beside_the_file(tmp_path: Path) -> None:
    scenario = read_scenario(_written(tmp_path, "log: requests.jsonl"))
    assert scenario.log == tmp_path / "requests.jsonl"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("latncy: 1", "mock.yaml:1:1: unknown key 'latncy'"),
        ("latncy: 1", "did you mean 'latency'?"),
        ("\nlatency: 5x", "mock.yaml:2:10: a duration is a number of seconds"),
        ("latency:\n  median: 1s", "mock.yaml:2:3: median and p95 belong together"),
        ("reply: {mtch: x, text: y}", "mock.yaml:1:9: unknown key 'mtch'"),
        ("reply:\n- echo\n- {text: x, match: '('}", "mock.yaml:3:20: "),
        ("reply: {template: '{{ usr }}'}", "there is user"),
        ("reply: {template: '{{ user'}", "no valid template"),
        (
            "failures:\n  hang: 1%\n  server_50: 2%",
            "mock.yaml:3:14: no failure is named 'server_50'",
        ),
        ("failures: {server_50: 2%}", "did you mean 'server_500'?"),
        ("failures: {hang: 200%}", "mock.yaml:1:18: input should be less than or equal to 1"),
        ("failures:\n- name: hang\n  shre: 1", "mock.yaml:3:3: unknown key 'shre'"),
        ("concurrency: many", "mock.yaml:1:14: input should be a valid integer"),
        ("keys: {k: {rpm: 0}}", "mock.yaml:1:17: input should be greater than or equal to 1"),
        ("keys: {k: {header: none}}", "did you mean 'headers'?"),
        ("batch: {latncy: 1}", "mock.yaml:1:9: unknown key 'latncy'"),
        ("batch: {latncy: 1}", "did you mean 'latency'?"),
        ("batch:\n  ends: {expird: 5%}", "mock.yaml:2:"),
        ("batch:\n  ends:\n  - {status: expired, answred: 1}", "did you mean 'answered'?"),
        ("batch: {lines: {server_50: 2%}}", "did you mean 'server_500'?"),
        ("batch: {requests: {finish_length: 2%}}", "is a wrong answer of a model"),
        ("batch: {window: 0}", "mock.yaml:1:17: input should be greater than 0"),
        ("keys: {k: {headers: cohere}}", "mock.yaml:1:21: input should be 'openai', 'azure'"),
        ("keys: {k: {window: sliding}}", "mock.yaml:1:20: input should be 'bucket' or 'fixed'"),
        ("slowdown: {capacty: 3}", "did you mean 'capacity'?"),
        ("slowdown: {capacity: 3, shape: x}", "mock.yaml:1:32: input should be 'queue', 'batch'"),
        ("slowdown: 3", "slowdown stretches the latency, and there is none"),
        ("slowdown: 0\nlatency: 1s", "mock.yaml:1:11: input should be greater than"),
        ("outages: [{at: 1s}]", "mock.yaml:1:11: "),
        ("outages: [{at: 1s, last: 1s}]", "did you mean 'lasts'?"),
        (
            "outages: [{at: 9, lasts: 1}, {at: 1, lasts: 8}]",
            "the outage at 9 s begins before that at 1 s is over",
        ),
        ("failures: [{name: hang, at: soon}]", "mock.yaml:1:29: a duration is"),
        ("failures: {nothing_like_it: 1%}", "gptflow mock --list shows all"),
        ("seed: 1\nseed: 2", "mock.yaml:2:1: "),
        ("[1, 2]", "mock.yaml:1:1: "),
    ],
)
def test_a_problem_is_told_with_its_place(tmp_path: Path, text: str, found: str) -> None:
    assert found in _problems(tmp_path, text)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    told = _problems(tmp_path, "latency: x\nfailures: {hanging: 1%}\nconcurrency: 0\n")
    assert [f":{line}:" in told for line in (1, 2, 3)] == [True] * 3


def test_keys_of_one_organization_need_one_limit(tmp_path: Path) -> None:
    text = "keys:\n  a: {organization: o, rpm: 1}\n  b: {organization: o, rpm: 2}\n"
    assert "the keys of organization o share one allowance" in _problems(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: No such file"):
        read_scenario(tmp_path / "missing.yaml")
    (tmp_path / "utf16.yaml").write_bytes("seed: 1".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"utf16\.yaml: byte 0 is not UTF-8"):
        read_scenario(tmp_path / "utf16.yaml")
