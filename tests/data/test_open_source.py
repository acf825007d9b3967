from __future__ import annotations

import io
from pathlib import Path

import pytest

from gptflow.data.sources.source import Source, open_source
from gptflow.errors import DataError
from gptflow.spec.model import SourceSpec, Spec, StepSpec
from tests.project import loaded


def opened(folder: Path, source: str, stdin: bytes = b"") -> Source:
    path = folder / "spec.yaml"
    path.write_text(
        f"name: x\nsource: {source}\nmodel: {{name: m}}\nsteps:\n  - {{name: a, prompt: hi}}\n"
    )
    return open_source(loaded(path), spool_folder=folder, stdin=io.BytesIO(stdin))


def texts(source: Source) -> list[str]:
    return [record.columns["text"] for record in source.records()]


def test_a_glob_and_a_list_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(name)

    assert texts(opened(tmp_path, "{path: '*.txt'}")) == ["a", "b", "c"]
    assert texts(opened(tmp_path, "{path: [c.txt, '[ab].txt']}")) == ["c", "a", "b"]


def test_the_format_of_the_spec_wins(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text("hello")

    assert texts(opened(tmp_path, "{path: x.dat, format: txt}")) == ["hello"]


def test_a_dash_is_standard_input(tmp_path: Path) -> None:
    assert texts(opened(tmp_path, "{path: '-'}", stdin=b'{"text": "piped"}')) == ["piped"]


def test_in_a_spec_from_python_a_pattern_that_fits_no_file_is_an_error() -> None:
    spec = Spec(
        name="x",
        source=SourceSpec(path="no/such/*.jsonl"),
        steps=[StepSpec(name="a", prompt="hi")],
    )

    with pytest.raises(DataError, match=r"no file matches no/such/\*\.jsonl"):
        open_source(spec)


def test_rows_of_the_spec_are_records_with_their_lines(tmp_path: Path) -> None:
    records = list(opened(tmp_path, "\n  rows:\n    - {text: a}\n    - {text: b}").records())

    assert [(record.columns, record.line) for record in records] == [
        ({"text": "a"}, 4),
        ({"text": "b"}, 5),
    ]
    assert records[0].file.endswith("spec.yaml")


def test_a_range_of_the_spec_has_numbered_rows(tmp_path: Path) -> None:
    assert [record.columns for record in opened(tmp_path, "{range: 2}").records()] == [
        {"index": 0},
        {"index": 1},
    ]
