from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gptflow.spec.model import Spec
from gptflow.spec.paths import resolve_output, resolve_source, templates_folder
from gptflow.spec.problems import Problem
from tests.project import loaded

Problems = Callable[..., list[Problem]]
Load = Callable[..., Spec]

SECOND_STEP = "  - {name: tell, prompt: x}\n"


def test_two_steps_cannot_have_one_name(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal + SECOND_STEP.replace("tell", "ask"))
    assert problem.message == "two steps are named 'ask', the first in line 5"
    assert str(problem.place) == "label.yaml:7:12"


def test_two_steps_cannot_give_one_field(problems: Problems, minimal: str) -> None:
    text = minimal + "    extract: {a: text}\n  - {name: b, prompt: x, extract: {a: text}}\n"
    (problem,) = problems(text)
    assert problem.message == "two fields are named 'a', the first in line 7"
    assert str(problem.place) == "label.yaml:8:36"


@pytest.mark.parametrize(
    ("more", "column"),
    [
        ("  - {name: row, prompt: x}", 12),
        ("    extract: {steps: text}", 15),
        ("vars: {vars: 1}", 8),
    ],
)
def test_the_names_of_templates_own_namespaces_are_taken(
    more: str, column: int, problems: Problems, minimal: str
) -> None:
    (problem,) = problems(f"{minimal}{more}\n")
    assert "means something else in templates" in problem.message
    assert str(problem.place) == f"label.yaml:7:{column}"


def test_without_any_model_there_is_one_problem(problems: Problems, minimal: str) -> None:
    text = minimal.replace("model: {name: gpt-4o-mini}\n", "") + SECOND_STEP
    (problem,) = problems(text)
    assert problem.message == "no model is named"
    assert str(problem.place) == "label.yaml:1:1"


def test_a_model_without_a_name_is_told_at_the_model(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal.replace("{name: gpt-4o-mini}", "{temperature: 0}") + SECOND_STEP)
    assert problem.message == "no model is named"
    assert str(problem.place) == "label.yaml:3:1"


def test_a_step_that_no_model_answers_is_told_at_its_name(problems: Problems, minimal: str) -> None:
    text = minimal.replace("model: {name: gpt-4o-mini}\n", "")
    (problem,) = problems(text + "    model: {name: m}\n" + SECOND_STEP)
    assert problem.message == "no model is named for this step"
    assert str(problem.place) == "label.yaml:7:12"


def test_every_step_may_name_its_own_model(load: Load, minimal: str) -> None:
    load(minimal.replace("model: {name: gpt-4o-mini}\n", "") + "    model: {name: m}\n")


@pytest.mark.parametrize("slip", ["nme: m", "engine: m", "Name: m"])
def test_a_misspelt_name_is_one_problem(slip: str, problems: Problems, minimal: str) -> None:
    assert len(problems(minimal.replace("name: gpt-4o-mini", slip))) == 1


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("data/review.jsonl", "there is no file 'data/review.jsonl'", "'data/reviews.jsonl'?"),
        ("nowhere/x.jsonl", "there is no file 'nowhere/x.jsonl'", "paths start from"),
        ("'data/*.csv'", "no file matches 'data/*.csv'", "paths start from"),
        ("data", "'data' is a folder without .parquet files", "data/*.jsonl"),
        ("label.yaml", "'label.yaml' tells no format", ".jsonl, .json, .csv, .tsv, .txt, .parquet"),
        ("a.parquet.gz", "'a.parquet.gz' is Parquet inside of .gz", "unpack it"),
        ("''", "this is no path", "name a file"),
        ('"a\\0b.jsonl"', "this is no path", "name a file"),
        ("x" * 5000 + ".jsonl", "there is no file", "paths start from"),
        ("[data/reviews.jsonl, b.csv]", "there is no file 'b.csv'", "paths start from"),
    ],
)
def test_a_source_that_cannot_be_read_is_told(
    path: str, message: str, hint: str, problems: Problems, minimal: str, folder: Path
) -> None:
    (folder / "a.parquet.gz").touch()
    (problem,) = problems(minimal.replace("range: 3", f"path: {path}"))
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert problem.place.line == 2


@pytest.mark.parametrize(
    "source",
    [
        "path: data/reviews.jsonl",
        "path: '-'",
        "path: data/*.jsonl",
        "path: [data/reviews.jsonl, data/*.jsonl]",
        "path: label.yaml, format: txt",
        "rows: [{a: 1}]",
    ],
)
def test_a_source_that_is_there_is_no_problem(source: str, load: Load, minimal: str) -> None:
    load(minimal.replace("range: 3", source))


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.csv.zst", "a.JSON", "a.tsv", "a.txt", "a.Parquet"]
)
def test_known_formats_may_be_compressed(name: str, load: Load, minimal: str, folder: Path) -> None:
    (folder / name).touch()
    load(minimal.replace("range: 3", f"path: {name}"))


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("out/x.txt", "'out/x.txt' tells no format", ".jsonl, .json, .csv or .parquet"),
        ("../x.jsonl", "'../x.jsonl' leads out of the project", "absolute path"),
        ("out/../../x.jsonl", "leads out of the project", "absolute path"),
        ("link/x.jsonl", "leads out of the project", "absolute path"),
        ("full.csv", "'full.csv' is a folder", "name a file"),
        ("data/reviews.jsonl", "is read as source", "a file of its own"),
    ],
)
def test_an_output_that_cannot_be_written_is_told(
    path: str, message: str, hint: str, problems: Problems, minimal: str, folder: Path
) -> None:
    (folder / "link").symlink_to("/usr")
    (folder / "full.csv").mkdir()
    text = minimal.replace("range: 3", "path: data/*.jsonl")
    (problem,) = problems(f"{text}output: {{path: {path}}}\n")
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert str(problem.place) == "label.yaml:7:16"


@pytest.mark.parametrize(
    "source",
    [
        "x.failed.jsonl",
        "x.simulated.csv",
        "x.simulated.failed.jsonl",
        "x.csv.part",
        "x.simulated.csv.part",
        "x.failed.jsonl.part",
        "'*.failed.jsonl'",
        "link.jsonl",
    ],
)
def test_a_file_that_a_run_writes_beside_its_output_cannot_be_its_source(
    source: str, problems: Problems, minimal: str, folder: Path
) -> None:
    name = {"'*.failed.jsonl'": "x.failed.jsonl", "link.jsonl": "x.failed.jsonl"}.get(
        source, source
    )
    (folder / name).touch()
    (folder / "link.jsonl").symlink_to("x.failed.jsonl")
    text = minimal.replace("range: 3", f"path: {source}, format: jsonl")
    (problem,) = problems(f"{text}output: {{path: x.csv}}\n")
    assert problem.message == (
        f"a run that writes 'x.csv' also writes '{name}', which is read as source"
    )
    assert str(problem.place) == "label.yaml:7:16"


@pytest.mark.parametrize("name", ["tiny.jsonl", "tiny.failed.jsonl"])
def test_nor_can_one_that_a_run_writes_without_being_told_where(
    name: str, problems: Problems, minimal: str, folder: Path
) -> None:
    (folder / "out").mkdir()
    (folder / "out" / name).touch()
    (problem,) = problems(minimal.replace("range: 3", f"path: out/{name}"))
    assert f"'out/{name}'" in problem.message
    assert problem.place.line == 2


def test_another_outputs_failed_rows_can_be_a_source(
    load: Load, minimal: str, folder: Path
) -> None:
    (folder / "x.failed.jsonl").touch()
    text = minimal.replace("range: 3", "path: x.failed.jsonl")
    load(f"{text}output: {{path: again.csv}}\n")


def test_a_templates_folder_must_be_there(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal + "templates: prompt\n")
    assert problem.message == "there is no folder 'prompt'"
    assert problem.hint == "did you mean 'prompts'?"


def test_paths_start_from_the_folder_of_the_spec(load: Load, minimal: str, folder: Path) -> None:
    spec = load(minimal.replace("range: 3", "path: data/*.jsonl") + "templates: prompts\n")
    assert resolve_source(spec) == [folder / "data/reviews.jsonl"]
    assert templates_folder(spec) == folder / "prompts"
    assert resolve_output(spec) == folder / "out/tiny.jsonl"


def test_a_spec_in_a_folder_may_write_beside_it_in_the_project(minimal: str, folder: Path) -> None:
    (folder / "pipelines").mkdir()
    path = folder / "pipelines" / "label.yaml"
    path.write_text(minimal + "output: {path: ../out/x.csv}\n")
    assert resolve_output(loaded(path)) == folder / "out/x.csv"


def test_globs_give_sorted_files_and_a_literal_name_wins(
    load: Load, minimal: str, folder: Path
) -> None:
    for name in ("b.csv", "a.csv", "x[1].csv", "x1.csv"):
        (folder / name).touch()
    (folder / "c.csv").mkdir()
    spec = load(minimal.replace("range: 3", "path: ['[a-c].csv', 'x[1].csv', '-']"))
    names = [str(path.name) for path in resolve_source(spec)]
    assert names == ["a.csv", "b.csv", "x[1].csv", "-"]


def test_a_folder_stands_for_its_parquet_files(load: Load, minimal: str, folder: Path) -> None:
    for name in ("b.parquet", "a/x.PARQUET", "a/y.txt", "_SUCCESS", "_tmp/c.parquet", ".d.parquet"):
        (folder / "table" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "table" / name).touch()
    (folder / "table" / "z.parquet").mkdir()
    spec = load(minimal.replace("range: 3", "path: table/"))
    found = [str(path.relative_to(folder / "table")) for path in resolve_source(spec)]
    assert found == ["a/x.PARQUET", "b.parquet"]


def test_a_source_without_files_has_none(load: Load) -> None:
    assert resolve_source(load()) == []


def test_a_range_of_workers_that_ends_before_it_begins_is_one_problem(
    problems: Problems, minimal: str
) -> None:
    (problem,) = problems(minimal + "parallelism: {workers: {min: 5, max: 2}}\n")
    assert problem.message == "max is 2, below min, 5"


def test_a_range_of_workers_has_two_ends(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal + "parallelism: {workers: {min: 5}}\n")
    assert problem.message == "the key 'max' is missing"
    assert problem.hint == "add a line such as `max: 16`"
