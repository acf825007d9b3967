"""A spec with functions of its user's: allowed, named, run, stored, and told of when they fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gptflow
from tests.own_python import forgotten_afterwards
from tests.project import Project

HOOKS = '''\
print("imported")


def split(row):
    """A record with several texts as so many rows."""
    print("split", row["id"])
    return [{"id": row["id"], "text": text} for text in row["text"].split("|") if text]


def words(row):
    return {"words": len(row["text"].split())}


def first(text, row):
    if row["text"] not in text:
        raise ValueError(f"it does not say {row['text']!r}")
    return text.split()[0]


def check(row, wrapper):
    text = wrapper.completions_with_backoff("gpt-4o-mini", f"Check {row['text']}", temperature=0)
    return {"checked": text, "model": wrapper.complete(messages=f"Again {row['text']}").model}


async def later(row, wrapper):
    return {"later": await wrapper.acompletions_with_backoff(messages=f"Later {row['checked']}")}
'''
SPEC = """\
name: reviews
source: {path: reviews.jsonl, transform: "own_hooks:split", where: "text != 'left out'"}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - {name: count, python: "own_hooks:words", fields: [words]}
  - name: label
    prompt: "Label {{ text }} of {{ words }} words, {{ steps.count.fields.words }}."
    extract: {label: {python: "own_hooks:first"}}
  - {name: check, when: words > 1, python: "own_hooks:check", fields: [checked, model]}
  - {name: later, when: checked, python: "own_hooks:later", fields: [later]}
output: {path: out/labels.jsonl}
"""
ITS_OWN: dict[str, Any] = {"stdin": subprocess.DEVNULL}
"""For a command that is to have a process of its own."""
PYTHON = ("--allow-python", "--python-path", "lib")


@pytest.fixture
def folder(project: Project) -> Iterator[Project]:
    """A project with SPEC, and HOOKS in the folder lib."""
    project.write("spec.yaml", SPEC)
    project.write("lib/own_hooks.py", HOOKS)
    project.write_rows([{"id": 1, "text": "good|not bad"}, {"id": 2, "text": ""}])
    with forgotten_afterwards(project.folder):
        yield project


def run(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    return project.run_json("spec.yaml", *PYTHON, *arguments, code=code)


def answered(project: Project) -> list[str]:
    return sorted(project.asked())


says_so = pytest.mark.parametrize(
    "project", [{"reply": [{"match": "", "text": "It says good, not bad"}]}], indirect=True
)


@says_so
def test_rows_go_through_functions_and_questions(folder: Project) -> None:
    summary = run(folder)
    assert (summary["rows"], summary["done"], summary["calls"]) == (2, 2, 5)
    assert folder.output() == [
        {
            "id": 1,
            "text": "good",
            "words": 1,
            "label": "It",
            "checked": None,
            "model": None,
            "later": None,
        },
        {
            "id": 1,
            "text": "not bad",
            "words": 2,
            "label": "It",
            "checked": "It says good, not bad",
            "model": "gpt-4o-mini",
            "later": "It says good, not bad",
        },
    ]
    assert answered(folder) == [
        "Again not bad",
        "Check not bad",
        "Label good of 1 words, 1.",
        "Label not bad of 2 words, 2.",
        "Later It says good, not bad",
    ]


@says_so
def test_the_same_command_again_has_nothing_to_do(folder: Project) -> None:
    run(folder)
    assert "nothing to do" in folder.gptflow("run", "spec.yaml", *PYTHON)


@says_so
def test_an_edited_function_makes_a_new_run_that_pays_nothing_again(folder: Project) -> None:
    first = run(folder)
    folder.asked()
    folder.write("lib/own_hooks.py", HOOKS.replace('len(row["text"]', '0 * len(row["text"]'))
    second = run(folder)
    assert (second["run"], second["calls"]) == (first["run"] + 1, 2)  # with 0 words in them
    assert answered(folder) == ["Label good of 0 words, 0.", "Label not bad of 0 words, 0."]
    folder.write("lib/own_hooks.py", HOOKS + "\n# edited\n")
    third = run(folder)
    assert (third["run"], third["calls"], third["reused_calls"]) == (first["run"] + 2, 0, 5)


@says_so
@pytest.mark.parametrize("mode", ["async", "thread", "process"])
def test_every_mode_gives_the_same(folder: Project, mode: str) -> None:
    run(folder, "--mode", mode)
    assert [(row["words"], row["later"] is not None) for row in folder.output()] == [
        (1, False),
        (2, True),
    ]


# ---------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize("verb", ["run", "validate", "preview"])
def test_nothing_runs_that_was_not_allowed(folder: Project, verb: str) -> None:
    told = folder.gptflow(verb, "spec.yaml", "--python-path", "lib", code=2)
    assert "spec.yaml:2:42: own_hooks:split is Python code, which runs as you do" in told
    assert "spec.yaml:5:27: own_hooks:words" in told
    assert "spec.yaml:8:31: own_hooks:first" in told
    assert "Hint: look at what it does, then say --allow-python" in told
    assert "imported" not in told
    assert "5 problems; nothing was sent." in told
    assert folder.asked() == []


def test_they_are_named_before_anything_of_them_runs(folder: Project) -> None:
    told = folder.gptflow("validate", "spec.yaml", *PYTHON)
    head = told[told.index("runs ") :].splitlines()
    assert head[:5] == [
        f"runs own_hooks:{name} of lib/own_hooks.py"
        for name in ("split", "words", "first", "check", "later")
    ]
    assert head[5] == "imported"


@pytest.mark.parametrize("place", ["own_hooks.py", "specs/own_hooks.py"])
def test_neither_the_spec_s_folder_nor_the_working_directory_is_looked_in(
    folder: Project, place: str
) -> None:
    folder.write(place, HOOKS)
    folder.write("specs/spec.yaml", SPEC.replace("reviews.jsonl", "../reviews.jsonl"))
    for spec in ("spec.yaml", "specs/spec.yaml"):
        told = folder.gptflow("validate", spec, "--allow-python", code=2, **ITS_OWN)
        assert "there is no Python module 'own_hooks' (own_hooks:split)" in told
        assert "--python-path DIR names the folder that it is in" in told


def test_no_file_of_the_working_directory_stands_in_for_a_package(folder: Project) -> None:
    for name in ("rich", "openai", "msgspec", "uuid"):
        folder.write(f"{name}.py", "raise SystemExit('taken for another')")
        folder.write(f"lib/{name}.py", "raise SystemExit('taken for another')")
    folder.gptflow("validate", "spec.yaml", *PYTHON, **ITS_OWN)


def test_a_preview_shows_the_rows_and_calls_what_cannot_ask(folder: Project) -> None:
    said = folder.gptflow("preview", "spec.yaml", *PYTHON)
    assert "row 2\n  step label: gpt-4o-mini temperature=0" in said
    assert "Label not bad of 2 words, 2." in said
    assert "then, in the same conversation: check, later" in said
    asks = SPEC.replace("own_hooks:words", "own_hooks:check").replace("[checked,", "[checked_2,")
    folder.write("spec.yaml", asks.replace("when: checked, ", ""))
    said = folder.gptflow("preview", "spec.yaml", *PYTHON)
    assert "step count: own_hooks:check is called, and asks what it wants" in said
    assert folder.asked() == []


def test_from_python_they_are_allowed_by_an_argument(folder: Project, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    with pytest.raises(gptflow.SpecError, match="is Python code, which runs as you do"):
        gptflow.load_spec(path)
    spec = gptflow.load_spec(path, allow_python=True, python_path=[tmp_path / "lib"])
    with pytest.raises(gptflow.SpecError, match="is Python code, which runs as you do"):
        gptflow.run(spec)
    assert folder.asked() == []


def test_only_a_folder_can_be_looked_in(folder: Project) -> None:
    told = folder.gptflow("validate", "spec.yaml", "--python-path", "lbi", code=2)
    assert "Directory 'lbi' does not exist" in told


@says_so
def test_what_functions_print_is_kept_from_what_a_program_reads(folder: Project) -> None:
    process = folder.start("run", "spec.yaml", *PYTHON, "--json")
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["done"] == 2
    assert "imported" in err
    out, err = folder.start("validate", "spec.yaml", *PYTHON, "--json").communicate(timeout=60)
    assert json.loads(out) == []
    assert "split 1" in err


@says_so
def test_so_is_what_programs_print_that_functions_start(folder: Project) -> None:
    shout = 'import os, sys\nos.system("echo from a program")\nsys.__stdout__.write("past it")\n'
    folder.write("lib/own_hooks.py", shout + HOOKS)
    out, err = folder.start("run", "spec.yaml", *PYTHON, "--json").communicate(timeout=60)
    assert json.loads(out)["done"] == 2
    assert "from a program" in err
    out, err = folder.start("preview", "spec.yaml", *PYTHON).communicate(timeout=60)
    assert out.startswith("row 1\n")
    assert "past it" in err


def test_a_task_of_a_function_cannot_end_the_command_as_if_all_were_done(folder: Project) -> None:
    task = """

async def later(row):
    import asyncio, sys
    async def sub():
        sys.exit(0)
    await asyncio.gather(sub(), asyncio.sleep(0.1))
"""
    folder.write("lib/own_hooks.py", HOOKS + task)
    folder.write("spec.yaml", SPEC.replace("own_hooks:words", "own_hooks:later"))
    told = folder.gptflow("run", "spec.yaml", *PYTHON, code=2, **ITS_OWN)
    assert "a task of a Python function has raised SystemExit(0)" in told


@pytest.mark.parametrize("mode", ["async", "thread"])
def test_functions_that_ask_nobody_need_no_key(folder: Project, mode: str) -> None:
    spec = SPEC[: SPEC.index("  - name: label")] + "output: {path: out/labels.jsonl}\n"
    folder.write("spec.yaml", spec)
    (folder.folder / "config.json").unlink()
    folder.gptflow("run", "spec.yaml", *PYTHON, "--mode", mode, **ITS_OWN)
    assert [row["words"] for row in folder.output()] == [1, 2]
    folder.write("spec.yaml", SPEC)
    assert "OPENAI_API_KEY" in folder.gptflow("run", "spec.yaml", *PYTHON, code=2, **ITS_OWN)


HELPED = """
from helper_of_hooks import texts
def split(row): return [{**row, "text": text} for text in texts(row)]
def words(row): return {"words": 1}
"""


def test_an_edited_helper_of_a_transform_is_told_with_the_way_out(folder: Project) -> None:
    spec = SPEC[: SPEC.index("  - name: label")] + "output: {path: out/labels.jsonl}\n"
    folder.write("spec.yaml", spec)
    folder.write("lib/own_hooks.py", HELPED.replace('"words": 1', '"words": 1 / 0'))
    folder.write("lib/helper_of_hooks.py", "def texts(row): return ['a', 'b']")
    folder.gptflow("run", "spec.yaml", *PYTHON, code=1, **ITS_OWN)
    folder.write("lib/helper_of_hooks.py", "def texts(row): return ['c']")
    again = ("run", "spec.yaml", *PYTHON, "--retry", "failed")
    assert "change a line of the function's file, too" in folder.gptflow(*again, code=2, **ITS_OWN)
    folder.write("lib/own_hooks.py", HELPED)
    folder.gptflow("run", "spec.yaml", *PYTHON, **ITS_OWN)
    assert [row["text"] for row in folder.output()] == ["c", "c"]


def test_a_stopped_run_tells_the_whole_command_that_goes_on(folder: Project) -> None:
    folder.write("lib/own_hooks.py", HOOKS.replace('row["text"].split())}', "row['no'])}"))
    told = folder.gptflow("run", "spec.yaml", *PYTHON, code=1)
    assert "next: gptflow run spec.yaml --allow-python --python-path lib --retry failed" in told
