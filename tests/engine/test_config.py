from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import shlex
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.engine.config import Config, config_from_environment, find_config, load_config
from gptflow.engine.config_file import KeyItem
from gptflow.engine.config_schema import SCHEMA_FILE, as_text, config_schema
from gptflow.engine.jsonc import plain_json
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
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
        (
            "config.json:5:18: key_list[1].base_url is not a URL that begins with http:// or "
            'https://\nHint: such as "http://localhost:8000/v1"'
        ),
        (
            "config.json:6:17: key_list[2].api_key wants NONE_SUCH, "
            "which the environment does not have\nHint: export NONE_SUCH=..."
        ),
        "config.json:6:41: key_list[2].name is empty",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"key_list": [}', "config.json:1:15: Expecting value"),
        ('{"key_list": [{"api_key": "a",\n "api_key": "b"}]}', "json:2:2: 'api_key' stands twice"),
        ("[" * 100_000, "too many brackets"),
        (f'{{"key_list": {"[" * 900}{"]" * 900}}}', "config.json"),
        ('{"keylist": []}', "did you mean it by 'keylist'?"),
        ('{"architectures": ["Bert"]}', "--config on the command line, config_path= in Python"),
        (
            "{'key_list': []}",
            (
                "json:1:2: Expecting property name enclosed in double quotes\nHint: "
                "JSON wants double quotes"
            ),
        ),
        ('{"key_list": [{"api_key": \'a\'}]}', "JSON wants double quotes"),
        ("{“key_list”: []}", "JSON wants double quotes"),
        ("[]", "there is no 'key_list'"),
        ("", 'is empty\nHint: it should read {"key_list": [{"api_key": "..."}]}'),
        ('{"api_key": "abc"}', 'it should read {"key_list": [{"api_key": "..."}]}'),
        ('{"key_list": []}', 'key_list is empty\nHint: it should read [{"api_key": "..."}]'),
        ('{"key_list": {}}', "key_list is not a list"),
        (
            '{"key_list": ["abc"]}',
            "1:15: key_list[0] is not an object\nHint: each key is an object",
        ),
        ('{"key_index": true, "key_list": [{"api_key": "abc"}]}', "is not a whole number"),
        ('{"key_index": ' + "9" * 5000 + "}", "config.json: a number has too many digits"),
        ('{"api_key": "a", "key_list": [{"api_key": "b"}]}', "it stands in each key of key_list"),
        ('{"key_list": [{"key": "abc"}]}', "did you mean 'api_key'?"),
        ("{key_list: []}", 'in double quotes\nHint: it begins like this: {"key_list"'),
        (with_key('"Base-URL": "http://h/v1"'), "did you mean 'base_url'?"),
        (with_key('"key_index": 0'), "it stands beside key_list, not in a key"),
        (with_key('"base_url": "http://h:80a/v1"'), "base_url is not a URL"),
        (
            with_key('"base_url": "http://h/v1/chat/completions"'),
            (
                "holds the path of an endpoint, which gptflow adds itself\n"
                "Hint: leave off /chat/completions"
            ),
        ),
        (with_key('"base_url": "http://h/v1/completions/"'), "holds the path of an endpoint"),
        (with_key('"base_url": "http://h/v1/models"'), "holds the path of an endpoint"),
        (with_key('"models": []'), "models is empty\nHint: leave it out where the key serves all"),
        (with_key('"models": "m-1"'), 'put the name into brackets: ["..."]'),
        (with_key('"name": "a\\u001b[2J"'), "another character that cannot be shown"),
        ('{"key_index": 3, "key_list": [{"api_key": "abc"}]}', "is 3, but the last key is 0"),
        (with_key('"base_url": "https://me:pw@host/v1"'), "may not hold a user"),
        (with_key('"organization": "org\\nX: y"'), "organization holds a space, a line end"),
        ('{"key_list": [{"api_key": "sk-a b"}]}', "holds a space"),
        ('{"key_list": [{"api_key": "sk-é"}]}', "outside of ASCII"),
        ('{"key_list": [{"api_key": " "}]}', "is empty"),
        ('{"key_list": [{"api_key": 7}]}', "is not text"),
        (
            '{"key_list": [{"api_key": "$KEY"}]}',
            'a variable of the environment is written "${NAME}"',
        ),
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


def test_a_slip_in_a_name_is_told_once(tmp_path: Path) -> None:
    assert complaint(tmp_path, '{"key_list": [{"apikey": "abc"}]}').count("\n\n") == 0
    assert complaint(tmp_path, '{"key_list": [{"nmae": "abc"}]}').count("\n\n") == 1


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

    assert "is what another key is called" in told
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
    with pytest.raises(ConfigError) as caught:
        load_config(REPOSITORY / "config.example.json", {})

    problems = str(caught.value).split("\n\n")
    told = [problem.partition(": ")[2].partition("\n")[0] for problem in problems]
    placeholders = [text for text in told if "is a placeholder" in text]
    assert len(placeholders) == 2
    assert all("which the environment does not have" in t for t in told if t not in placeholders)


AMOUNTS = '"rpm": 500, "tpm": 200000, "concurrency": 8, "timeout_s": 2.5'


def test_what_a_key_may_do_is_taken_over(tmp_path: Path) -> None:
    (key,) = load(tmp_path, with_key(f'{AMOUNTS}, "headers": {{"X-Token": "a b"}}')).keys

    assert (key.rpm, key.tpm, key.concurrency, key.timeout_s) == (500, 200_000, 8, 2.5)
    assert key.headers == (("x-token", Secret("a b")),)


def test_what_a_key_may_do_is_optional(tmp_path: Path) -> None:
    (key,) = load(tmp_path, with_key('"rpm": null, "headers": {}')).keys

    assert (key.rpm, key.tpm, key.concurrency, key.timeout_s, key.headers) == (*[None] * 4, ())


def test_amounts_may_come_from_the_environment(tmp_path: Path) -> None:
    text = with_key('"rpm": "${RPM}", "timeout_s": "${SECONDS}"')
    (key,) = load(tmp_path, text, RPM="500", SECONDS="2.5").keys

    assert (key.rpm, key.timeout_s) == (500, 2.5)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('"rpm": 0', "rpm is below 1"),
        ('"tpm": -5', "tpm is below 1"),
        ('"rpm": 1e12', "rpm is above 1,000,000,000"),
        ('"rpm": 1e400', "rpm is not a whole number"),
        ('"concurrency": 1.5', "concurrency is not a whole number"),
        ('"concurrency": true', "concurrency is not a whole number"),
        ('"rpm": "fast"', "rpm is not a whole number"),
        ('"timeout_s": 0', "timeout_s is not above 0"),
        ('"timeout_s": 1e9', "timeout_s is above 86,400"),
        ('"timeout_s": NaN', "timeout_s is not a number of seconds"),
        ('"timeout_s": "soon"', "timeout_s is not a number of seconds"),
        ('"headers": []', 'headers is not an object\nHint: it should read {"Name": "value"}'),
        ('"headers": {"X A": "1"}', "headers.X A is no name of a header"),
        ('"headers": {"X": 1}', "headers.X is not text"),
        ('"headers": {"X": "a\\nB: c"}', "headers.X holds a line end"),
        ('"headers": {"X": " "}', "headers.X is empty"),
        ('"headers": {"X-A": "1", "x-a": "2"}', "headers.x-a is set by 'X-A' already"),
        (
            '"organization": "o", "headers": {"OpenAI-Organization": "p"}',
            "headers.OpenAI-Organization is set by 'organization' already",
        ),
        *(
            (f'"headers": {{"{name}": "x"}}', f"headers.{name} is a header that gptflow sets")
            for name in ("Authorization", "content-type", "CONTENT-LENGTH", "Host")
        ),
    ],
)
def test_what_a_key_may_do_is_checked(tmp_path: Path, entry: str, says: str) -> None:
    assert says in complaint(tmp_path, with_key(entry))


def test_a_headers_problem_is_placed_at_its_name_or_value(tmp_path: Path) -> None:
    text = """{"key_list": [{"api_key": "a", "headers": {
  "Host": "h",
  "X-A": ""
}}]}"""

    places = [told.partition(": ")[0] for told in complaint(tmp_path, text).split("\n\n")]
    assert places == ["config.json:2:3", "config.json:3:10"]


@pytest.mark.parametrize("organization", ["null", '""', '" "'])
def test_no_organization_may_be_said_in_words(tmp_path: Path, organization: str) -> None:
    (key,) = load(tmp_path, with_key(f'"organization": {organization}')).keys

    assert key.organization is None


def test_a_variable_that_is_empty_is_told_apart_from_one_that_is_missing(tmp_path: Path) -> None:
    text = '{"key_list": [{"api_key": "${A_KEY}", "base_url": "${A_URL}"}]}'

    assert complaint(tmp_path, text, A_KEY="").split("\n\n") == [
        (
            "config.json:1:27: key_list[0].api_key wants A_KEY, which is empty in the environment"
            "\nHint: export A_KEY=..."
        ),
        (
            "config.json:1:51: key_list[0].base_url wants A_URL, "
            "which the environment does not have\nHint: export A_URL=..."
        ),
    ]


def test_a_schema_for_editors_may_be_named(tmp_path: Path) -> None:
    text = f'{{"$schema": "config.schema.json", "key_list": [{{"api_key": "{CANARY}"}}]}}'

    assert load(tmp_path, text).path == tmp_path / "config.json"


def test_the_environment_has_no_path() -> None:
    config = config_from_environment({"OPENAI_API_KEY": CANARY})

    assert config is not None
    assert config.path is None


@pytest.mark.parametrize(
    ("mode", "who"), [(0o644, "every user of this machine"), (0o640, "its group")]
)
def test_a_file_that_others_can_read_is_noted(tmp_path: Path, mode: int, who: str) -> None:
    load(tmp_path, with_key('"name": "main"'))
    path = tmp_path / "config.json"
    path.chmod(mode)
    (note,) = load_config(path, {}).notes

    assert note == (
        f"{path}: {who} can read the keys in it (mode {mode:o}); chmod 600 {shlex.quote(str(path))}"
    )
    assert CANARY not in note


def test_a_file_that_only_its_owner_reads_needs_no_note(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch(0o600)

    assert load(tmp_path, with_key('"name": "main"')).notes == ()


@pytest.mark.parametrize("key", ["${A_KEY}", "none"])
def test_a_file_without_a_key_of_its_own_needs_no_note(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").touch(0o644)

    assert load(tmp_path, f'{{"key_list": [{{"api_key": "{key}"}}]}}', A_KEY=CANARY).notes == ()


def test_one_key_with_two_lists_of_models_counts_twice(tmp_path: Path) -> None:
    keys = '{"api_key": "aa", "models": ["m-1"]}, {"api_key": "aa", "models": ["m-2"]}'

    assert len(load(tmp_path, f'{{"key_list": [{keys}]}}').keys) == 2


def test_keys_of_one_organization_at_one_host_share_limits(tmp_path: Path) -> None:
    entries = (
        '{"api_key": "aa", "organization": "o", "base_url": "https://Host/v1"}',
        '{"api_key": "bb", "organization": "o", "base_url": "https://host/v1/"}',
        '{"api_key": "cc", "organization": "o", "base_url": "https://other/v1"}',
        '{"api_key": "dd", "base_url": "https://host/v1", "models": ["m-1"]}',
        '{"api_key": "dd", "base_url": "https://host/v1", "models": ["m-2"]}',
        '{"api_key": "o", "base_url": "https://host/v1"}',
    )
    keys = load(tmp_path, f'{{"key_list": [{", ".join(entries)}]}}').keys

    assert keys[0].account == keys[1].account
    assert keys[3].account == keys[4].account
    assert len({key.account for key in keys}) == 4
    assert "dd" not in repr(keys[3].account)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch(0o000)

    with pytest.raises(ConfigError, match="Permission denied"):
        load_config(path, {})


def test_a_huge_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes"):
        load_config(Path("/dev/zero"), {})


def test_thousands_of_problems_are_not_all_told(tmp_path: Path) -> None:
    text = json.dumps({"key_list": [{}] * 5000})

    problems = complaint(tmp_path, text).split("\n\n")
    assert (len(problems), problems[-1]) == (51, "and 4,950 more")


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").symlink_to("gone.json")

    with pytest.raises(ConfigError, match=r"config\.json: No such file"):
        find_config(None, {"OPENAI_API_KEY": CANARY})


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*KeyItem.model_fields, "x"]), inner, max_size=4)
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps({"key_index": value, "key_list": [value, {"headers": value}]}))
)
def test_whatever_the_file_says_it_is_a_config_or_a_config_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(ConfigError):
            load_config(path, {})


def test_the_schema_in_the_repository_is_fresh() -> None:
    text = (REPOSITORY / SCHEMA_FILE).read_text(encoding="utf-8")
    assert text == as_text(config_schema()), "run `make schema`"


def test_the_schema_describes_every_key() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    parts = {**schema["properties"], **schema["$defs"]["KeyItem"]["properties"]}

    assert [name for name, part in parts.items() if not part.get("description")] == []
    assert parts.keys() >= {"$schema", "key_index", "key_list", *KeyItem.model_fields}


def test_an_editor_takes_the_example_file() -> None:
    text = (REPOSITORY / "config.example.json").read_text(encoding="utf-8")

    assert list(marked(json.loads(plain_json(text)))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        '"organisation": "o"',
        '"rpm": 0',
        '"rpm": "many"',
        '"timeout_s": -1',
        '"models": []',
        '"headers": {"X": 1}',
    ],
)
def test_an_editor_marks_mistakes(wrong: str) -> None:
    assert list(marked(json.loads(with_key(wrong))))


def marked(data: object) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator(config_schema())
    return (error.message for error in validator.iter_errors(data))


@pytest.mark.parametrize("text", ['{"key_list": [{"api_key": "sk-canary-0123456789" ', '{"a": }'])
def test_an_error_holds_no_text_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "sk-canary" not in "".join(told.format()).replace(repr(text), "")
