"""What a user gets wrong: told with its place, before anything is asked or overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptflow.cli.main import main
from tests.project import SPEC, Project

CANARY = "sk-canary-7f3a9b2c4d5e6f70"
Refused = Callable[..., str]


@pytest.fixture
def refused(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Refused]:
    """Runs spec.yaml with options, or a whole command, that must be refused; gives its words.

    It has exit code 2 and no traceback, asks nothing, and leaves an output of before as it was.
    """
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(project.folder)
    output = project.write("out/labels.jsonl", "from before\n")
    failed = project.write("out/labels.failed.jsonl", "from before\n")

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments if arguments[:1] == ("run",) else ("run", "spec.yaml", *arguments))
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, ""), said
        assert "Traceback" not in said.err
        return said.err

    yield run
    assert project.asked() == []
    assert output.read_text() == failed.read_text() == "from before\n"


# ------------------------------------------------------------------ the spec


def test_a_spec_that_is_not_there(refused: Refused) -> None:
    assert refused("run", "sepc.yaml") == (
        "there is no file sepc.yaml\nHint: did you mean spec.yaml?\n"
    )


def test_a_spec_that_is_a_folder(refused: Refused) -> None:
    assert refused("run", "out") == "out is a folder\nHint: name the spec's file in it\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: [\n", "spec.yaml:1:8: this [ is never closed"),
        ("a: 1\na: 2\n", "spec.yaml:2:1: "),
        ("", "spec.yaml:1:1: the file is empty"),
        ("- a\n", "spec.yaml:1:1: expected a mapping"),
        (SPEC.replace("{{ text }} as", "{{ txet }} as"), "spec.yaml:8:23: no column, field or"),
        (SPEC.replace("reviews.jsonl", "reveiws.jsonl"), "spec.yaml:4:16: there is no file 'rev"),
        (SPEC.replace("temperature", "temprature"), "spec.yaml:5:28: "),
    ],
)
def test_a_spec_that_is_wrong(project: Project, refused: Refused, text: str, words: str) -> None:
    project.write("spec.yaml", text)
    assert words in refused()


def test_a_value_for_what_is_not_in_the_language(refused: Refused) -> None:
    said = refused("--set", "modle.temperature=0")
    assert "unknown key 'modle'" in said
    assert "did you mean 'model'?" in said


# ------------------------------------------------------------------ the data


def test_a_broken_line_is_shown_with_its_number(project: Project, refused: Refused) -> None:
    rows = [json.dumps({"id": number, "text": "good"}) for number in range(200)]
    rows[150] = '{"id": 150 "text": "good"}'
    project.write("reviews.jsonl", "\n".join(rows))
    said = refused()
    assert said.startswith("reviews.jsonl:151: not valid JSON: expecting ',' delimiter\n")
    assert '{"id": 150 "text"' in said


def test_an_id_that_two_rows_have(project: Project, refused: Refused) -> None:
    project.write_rows([{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 1, "text": "c"}])
    said = refused("--set", "source.id=id")
    assert "id does not identify a row (source.id)" in said
    assert "reviews.jsonl:3 has the id of reviews.jsonl:1" in said


def test_a_row_that_where_cannot_judge(project: Project, refused: Refused) -> None:
    project.write_rows([{"text": "good", "stars": 5}, {"text": "bad", "stars": "many"}])
    said = refused("--set", "source.where=stars > 3")
    assert "reviews.jsonl:2: source.where cannot be evaluated for this row" in said
    assert '{"text": "bad", "stars": "many"}' in said


def test_an_empty_source_is_done_at_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    project.write("reviews.jsonl", "")
    with pytest.raises(SystemExit) as ended:
        main(["run", "spec.yaml", "-q"])
    assert ended.value.code == 0
    assert project.output() == []
    assert project.asked() == []


# ------------------------------------------------------------------ the keys


def test_without_a_key_the_three_ways_are_shown(project: Project, refused: Refused) -> None:
    (project.folder / "config.json").unlink()
    said = refused()
    assert said.startswith("no config.json here and no OPENAI_API_KEY\n")
    for way in ("config.json ", "--local ", "--mock "):
        assert f"\n  {way}" in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"key_list": [\n', "config.json:2:1: "),
        ('{"key_lsit": []}', "config.json: there is no 'key_list'"),
        (f'{{"key_list": [{{"api_kye": "{CANARY}"}}]}}', "key_list[0].api_kye is no key of this"),
        (f'{{"key_list": [{{"api_key": "{CANARY} x"}}]}}', "config.json:1:27: key_list[0].api_key"),
        ('{"key_list": [{"api_key": "${NO_SUCH}"}]}', "wants NO_SUCH, which the environment"),
    ],
)
def test_a_config_that_is_wrong(
    project: Project, refused: Refused, config: str, words: str
) -> None:
    project.write("config.json", config)
    said = refused()
    assert words in said
    assert CANARY not in said


@pytest.mark.parametrize(
    "project", [{"unknown_keys": "refuse", "keys": {"sk-right": {}}}], indirect=True
)
@pytest.mark.parametrize("also_right", [False, True], ids=["the only key", "one of two"])
def test_a_key_that_is_not_accepted_is_named_and_never_shown(
    project: Project, *, also_right: bool
) -> None:
    project.write_config(CANARY, *(["sk-right"] if also_right else []))
    command = ("run", "spec.yaml", "--set", "limits.key_wait_s=0")
    said = project.gptflow(*command, code=0 if also_right else 3)
    assert "key 1 is out: " in said
    assert also_right or "config.json" in said
    assert also_right == (project.folder / "out/labels.jsonl").exists()
    written = [path for path in project.folder.rglob("*") if path.is_file()]
    held = [path.name for path in written if CANARY.encode() in path.read_bytes()]
    assert held == ["config.json"]
    assert CANARY not in said


# ------------------------------------------------------------------ the files that are written


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("out/labels.jsonl/x.jsonl", "x.jsonl: cannot be written: its folder is a file"),
        ("out/labels.jsonl/y/x.jsonl", "x.jsonl: cannot be written: its folder is a file"),
        ("out", "'out' tells no format"),
        ("labels.xml", "'labels.xml' tells no format"),
        ("../labels.jsonl", "'../labels.jsonl' leads out of the project"),
        ("reviews.jsonl", "'reviews.jsonl' is read as source"),
    ],
)
def test_an_output_that_cannot_be_written(refused: Refused, output: str, words: str) -> None:
    assert words in refused("--set", f"output.path={output}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_in_which_one_may_not_write(project: Project, refused: Refused) -> None:
    (project.folder / "locked").mkdir(mode=0o500)
    said = refused("--set", "output.path=locked/labels.jsonl")
    assert "cannot be written: Permission denied" in said


def test_a_store_that_is_a_folder(project: Project, refused: Refused) -> None:
    (project.folder / ".gptflow/reviews.db").mkdir(parents=True)
    assert "the store .gptflow/reviews.db is a folder" in refused()


def test_a_store_that_is_something_else(project: Project, refused: Refused) -> None:
    project.write(".gptflow/reviews.db", "my notes, which are no store at all\n" * 100)
    assert "is damaged or no store at all" in refused()
    assert (project.folder / ".gptflow/reviews.db").read_text().startswith("my notes")


def test_a_store_in_a_folder_that_cannot_be_made(refused: Refused) -> None:
    said = refused("--store", "reviews.jsonl/x.db")
    assert said.startswith("the folder of the store reviews.jsonl/x.db cannot be made")


def test_a_retry_of_nothing(refused: Refused) -> None:
    said = refused("--retry", "failed")
    assert said.endswith("to retry\nHint: run it without --retry first\n")


def test_a_scenario_that_is_not_there(refused: Refused) -> None:
    assert "none.yaml: No such file" in refused("--scenario", "none.yaml")


def test_weights_that_are_not_there(refused: Refused) -> None:
    assert "none.gguf" in refused("--local", "none.gguf")


def test_paths_of_a_spec_elsewhere_start_from_it(project: Project, refused: Refused) -> None:
    deeper = Path("deeper/spec.yaml")
    project.write(str(deeper), SPEC)
    assert f"{deeper}:4:16: there is no file 'reviews.jsonl'" in refused("run", str(deeper))
