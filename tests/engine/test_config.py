from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from gptflow.engine.config import Config, config_from_environment, find_config, load_config
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError

CANARY = "sk-canary-0123456789abcdefwxyz"


def load(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ)


def complaint(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environ)
    return str(caught.value).replace(f"{folder}/", "")


def with_key(entry: str) -> str:
    return f'{{"key_list": [{{"api_key": "{CANARY}", {entry}}}]}}'


def test_the_documented_form_loads_with_its_comments(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """{
          "key_index": 1, // the key to begin with
          "key_list": [
            {"api_key": "sk-aaaaaaaaaaaaaaaaaaaa", "organization": "org-1"}, /* the first */
            {"api_key": "sk-bbbbbbbbbbbbbbbbbbbb", "base_url": "http://10.0.0.7:8000/v1/"},
          ],
        }""",
    )

    first, second = config.keys
    assert config.start_index == 1
    assert (first.name, first.organization) == ("key 1", "org-1")
    assert (first.api_key.reveal(), first.base_url) == (
        "sk-aaaaaaaaaaaaaaaaaaaa",
        "https://api.openai.com/v1",
    )
    assert (second.name, second.base_url) == ("key 2", "http://10.0.0.7:8000/v1")


def test_names_and_models_are_taken_over(tmp_path: Path) -> None:
    (key,) = load(tmp_path, with_key('"name": "main", "models": ["m-1"]')).keys

    assert (key.name, key.models) == ("main", ("m-1",))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + with_key('"name": "main"')).keys


def test_a_key_comes_from_the_environment_by_name(tmp_path: Path) -> None:
    config = load(tmp_path, '{"key_list": [{"api_key": "${MY_KEY}"}]}', MY_KEY=CANARY + "\n")

    assert config.keys[0].api_key.reveal() == CANARY


def test_all_problems_are_named_at_once_with_their_places(tmp_path: Path) -> None:
    text = """{
  "key_indx": 0,
  "key_list": [
    {"api_key": "sk-...", "organisation": "org-1"},
    {"base_url": "ftp://host"},
    {"api_key": "${NONE_SUCH}", "name": ""},
  ]
}"""

    assert complaint(tmp_path, text).split("\n\n") == [
        "config.json:2:3: key_indx is no key of this file\nHint: did you mean 'key_index'?",
        (
            "config.json:4:17: key_list[0].api_key is a placeholder, not a key\n"
            'Hint: write the key in its place, or "${NAME}" to read it from the environment'
        ),
        (
            "config.json:4:27: key_list[0].organisation is no key of this file\n"
            "Hint: did you mean 'organization'?"
        ),
        "config.json:5:5: key_list[1].api_key is missing",
        "config.json:5:18: key_list[1].base_url is not a URL that begins with http:// or https://",
        (
            "config.json:6:17: key_list[2].api_key wants NONE_SUCH, "
            "which the environment does not have\nHint: export NONE_SUCH=..."
        ),
        "config.json:6:41: key_list[2].name is wrong: string should have at least 1 character",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"key_list": [}', "config.json:1:15: Expecting value"),
        ('{"key_list": [{"api_key": "a", "api_key": "b"}]}', "'api_key' stands twice"),
        ("[" * 100_000, "too many brackets"),
        ('{"keylist": []}', "did you mean it by 'keylist'?"),
        ('{"architectures": ["Bert"]}', "--config"),
        ("[]", "there is no 'key_list'"),
        ('{"key_list": []}', "at least 1 item"),
        ('{"key_list": {}}', "key_list is wrong"),
        ('{"key_index": 3, "key_list": [{"api_key": "abc"}]}', "is 3, but the last key is 0"),
        (with_key('"base_url": "https://me:pw@host/v1"'), "may not hold a user"),
        (with_key('"organization": "org\\nX: y"'), "organization holds a space, a line end"),
        ('{"key_list": [{"api_key": "sk-a b"}]}', "holds a space"),
        ('{"key_list": [{"api_key": "sk-é"}]}', "outside of ASCII"),
        ('{"key_list": [{"api_key": " "}]}', "is empty"),
        ('{"key_list": [{"api_key": 7}]}', "should be a valid string"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    assert says in complaint(tmp_path, text)


@pytest.mark.parametrize(
    "key", ["sk-...", "sk-xxxxxxxx", "YOUR_API_KEY", "your-openai-key", "<key>", "sk-…", "sk-****"]
)
def test_the_placeholder_of_an_example_is_no_key(tmp_path: Path, key: str) -> None:
    text = f'{{"key_list": [{{"api_key": "{key}"}}]}}'

    assert "is a placeholder, not a key" in complaint(tmp_path, text)


def test_names_must_differ(tmp_path: Path) -> None:
    keys = '{"api_key": "aa", "name": "x"}, {"api_key": "bb", "name": "x"}'

    assert "config.json:1:73: key_list[1].name" in complaint(tmp_path, f'{{"key_list": [{keys}]}}')


@pytest.mark.parametrize(
    "keys",
    [
        '{"api_key": "aa"}, {"api_key": "bb", "name": "key 1"}',
        '{"api_key": "aa", "name": "key 2"}, {"api_key": "bb"}',
    ],
)
def test_no_key_may_be_named_as_one_without_a_name_is_called(tmp_path: Path, keys: str) -> None:
    told = complaint(tmp_path, f'{{"key_list": [{keys}]}}')

    assert "as another key is called" in told
    assert "called after its place" in told


def test_a_key_that_stands_twice_counts_once_and_is_noted(tmp_path: Path) -> None:
    keys = '{"api_key": "aa"}, {"api_key": "aa"}, {"api_key": "bb"}'
    config = load(tmp_path, f'{{"key_index": 2, "key_list": [{keys}]}}')

    assert [key.name for key in config.keys] == ["key 1", "key 3"]
    assert config.start_index == 1
    assert config.notes == ("key 2 is the same as key 1, and is left out",)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "config.json", {})


def test_a_file_that_is_not_utf8_is_told_where(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"key_list\xff')

    with pytest.raises(ConfigError, match=r"not UTF-8 \(byte 10\)"):
        load_config(path, {})


def test_the_environment_stands_in_for_a_file() -> None:
    config = config_from_environment(
        {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": "http://[::1]:8000/v1", "OPENAI_ORG_ID": "o"}
    )

    assert config is not None
    (key,) = config.keys
    assert (key.base_url, key.organization) == ("http://[::1]:8000/v1", "o")
    assert key.api_key.reveal() == CANARY


def test_without_a_key_the_environment_is_no_configuration() -> None:
    assert config_from_environment({"OPENAI_API_KEY": ""}) is None


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL is not a URL"):
        config_from_environment({"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": "localhost:8000"})


def test_a_file_wins_over_the_environment_and_a_named_one_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"OPENAI_API_KEY": CANARY}
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.json"
    other.write_text('{"key_list": [{"api_key": "bb"}]}')

    origins = [find_config(None, {}), find_config(None, environ), find_config(other, environ)]
    load(tmp_path, '{"key_list": [{"api_key": "aa"}]}')
    origins.append(find_config(None, environ))

    found = [config and config.origin for config in origins]
    assert found == [None, "OPENAI_API_KEY", str(other), "config.json"]


def test_openai_variables_have_no_say_in_a_file(tmp_path: Path) -> None:
    environ = {"OPENAI_ORG_ID": "org-x", "OPENAI_BASE_URL": "http://x/v1", "OPENAI_API_KEY": "k"}
    (key,) = load(tmp_path, with_key('"name": "main"'), **environ).keys

    assert (key.organization, key.base_url) == (None, "https://api.openai.com/v1")


def test_a_configuration_shows_no_more_of_a_key_than_its_end(tmp_path: Path) -> None:
    config = load(tmp_path, with_key('"name": "main"'))

    assert CANARY not in f"{config!r} {config} {config.keys[0].api_key}"
    assert "…wxyz" in repr(config)


def test_no_complaint_shows_a_key(tmp_path: Path) -> None:
    told = complaint(tmp_path, f'{{"key_list": [{{"api_key": "{CANARY} x", "name": 7}}]}}')

    assert CANARY not in told


def test_a_key_is_not_pickled(tmp_path: Path) -> None:
    config = load(tmp_path, with_key('"name": "main"'))

    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(config)
    assert copy.deepcopy(config) == config


def test_a_short_key_shows_nothing_and_scrubs_nothing() -> None:
    secret = Secret("none")

    assert str(secret) == "…"
    assert secret.scrub("none is left") == "none is left"


def test_the_example_file_wants_nothing_but_keys_of_ones_own() -> None:
    example = Path(__file__).parents[2] / "config.example.json"
    with pytest.raises(ConfigError) as caught:
        load_config(example, {})

    problems = str(caught.value).split("\n\n")
    assert [problem.partition(": ")[2].partition("\n")[0] for problem in problems] == [
        "key_list[0].api_key is a placeholder, not a key",
        "key_list[1].api_key wants OPENAI_API_KEY_2, which the environment does not have",
    ]
