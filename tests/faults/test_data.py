"""The tables of docs/data.md: each of their rows has its test here, under the same name."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gptflow.cli.main import main
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.data.conftest import PACKERS
from tests.faults.odd_data import CASES, CODE, SEPARATORS, Case, Kept, Refused
from tests.project import Project, serving

SPEC = """
name: odd
source:
  {source}
model: {{name: gpt-4o-mini, temperature: 1}}
steps:
  - {{name: look, prompt: "It has {{{{ row | length }}}} columns.", extract: {{seen: text}}}}
parallelism: {{concurrency: {concurrency}}}
output: {{path: out/rows.jsonl}}
"""


CONCURRENCY = 8


class Number(NamedTuple):
    """A number as its digits: 1.0 is not 1."""

    digits: str


def exactly(text: str) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


def lines_of(path: Path) -> list[Any]:
    """The rows of a .jsonl."""
    return [exactly(line) for line in path.read_bytes().decode().split("\n")[:-1]]


def spec(source: str, concurrency: int = CONCURRENCY) -> str:
    return SPEC.format(source=source, concurrency=concurrency)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with serving(tmp_path_factory.mktemp("server"), {"reply": "echo"}) as project:
        yield project


@pytest.fixture
def project(server: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty folder with a config; the server is that of all."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path, server.base_url, server.requests)
    made.requests.clear()
    made.write_config("sk-test-1234567890")
    return made


Ended = tuple[int, str]


@pytest.fixture
def run(project: Project, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`gptflow run spec.yaml` in this process: its exit code, and what it said."""

    def run_it(*options: str) -> Ended:
        assert Path.cwd() == project.folder
        with pytest.raises(SystemExit) as ended:
            main(["run", "spec.yaml", "-q", *options])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(str(ended.value.code)), said.err

    return run_it


# ------------------------------------------------------------------ what is in the data


def ids(kind: type[Case]) -> list[tuple[str, str]]:
    return [
        (title, ending)
        for title, cases in CASES.items()
        for ending, case in cases.items()
        if isinstance(case, kind)
    ]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """All kept data, plain and packed, in one run: interrupted, resumed, exported.

    The rows of each format: objects from .jsonl and .json, lists of cells from .csv.
    """
    folder = tmp_path_factory.mktemp("kept")
    with serving(folder, {"reply": "echo", "latency": "20ms"}) as project:
        project.write("spec.yaml", spec(f"path: {json.dumps(kept_files(folder))}"))
        interrupt(project, after=60)
        project.gptflow("run", "spec.yaml", "-q")
        rows = lines_of(folder / "out/rows.jsonl")
        assert len(rows) <= len(project.requests) <= len(rows) + CONCURRENCY
    for name in ("rows.json", "rows.csv"):
        project.gptflow("export", ".gptflow/odd.db", "-o", name)
    return {
        "jsonl": rows,
        "json": exactly((folder / "rows.json").read_text(encoding="utf-8")),
        "csv": cells_of(folder / "rows.csv"),
    }


def cells_of(path: Path) -> list[list[str]]:
    """The lines of a .csv."""
    limit = csv.field_size_limit(1 << 26)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file, strict=True))
    finally:
        csv.field_size_limit(limit)


def kept_files(folder: Path) -> list[str]:
    """Writes the files, and gives their names in the order of the run."""
    names: list[str] = []
    for title, ending in ids(Kept):
        if ending != "rows":
            for packing, pack in PACKERS.items():
                name = f"{len(names)}.{ending}{packing}"
                (folder / name).write_bytes(pack(CASES[title][ending].data))
                names.append(name)
    return names


def interrupt(project: Project, after: int) -> None:
    process = project.start("run", "spec.yaml", "-q")
    deadline_s = time.monotonic() + 60
    while len(project.requests) < after and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    process.terminate()
    said = process.communicate()
    assert process.returncode == 143, said


def span_of(title: str, ending: str) -> dict[str, slice]:
    """Where the rows of a file stand in the outputs, by packing."""
    at, spans = 0, {}
    for case in ids(Kept):
        if case[1] == "rows":
            continue
        for packing in PACKERS:
            rows = len(CASES[case[0]][case[1]].rows)  # type: ignore[union-attr]  # it is Kept
            if case == (title, ending):
                spans[packing] = slice(at, at + rows)
            at += rows
    return spans


def cell(value: Any) -> Any:
    """What a cell of a .csv says of a value."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Number):
        return value.digits
    return "" if value is None else value


@pytest.mark.parametrize(("title", "ending"), [id_ for id_ in ids(Kept) if id_[1] != "rows"])
def test_what_is_kept(outputs: dict[str, list[Any]], title: str, ending: str) -> None:
    case = CASES[title][ending]
    assert isinstance(case, Kept)
    rows = [exactly(row) for row in case.rows]
    header, *lines = outputs["csv"]
    for packing, span in span_of(title, ending).items():
        for output in ("jsonl", "json"):
            found = [{**row} for row in outputs[output][span]]
            assert all(row.pop("seen") == f"It has {len(row)} columns." for row in found)
            assert found == rows, (output, packing)
            assert list(map(list, found)) == list(map(list, rows)), "the order of the columns"
        for row, line in zip(rows, lines[span], strict=True):
            cells = dict(zip(header, line, strict=True))
            for name, value in row.items():
                shown = cells[cell(name)]
                is_nested = isinstance(value, dict | list | bool)
                assert (exactly(shown) if is_nested else shown) == cell(value), packing


@pytest.mark.parametrize(
    "title", [title for title, ending in ids(Kept) if ending == "rows"], ids=lambda t: f"{t}-rows"
)
def test_what_is_kept_of_rows_in_the_spec(
    project: Project, run: Callable[..., Ended], title: str
) -> None:
    case = CASES[title]["rows"]
    assert isinstance(case, Kept)
    project.write("spec.yaml", spec(f"rows: {case.data.decode()}"))
    assert run() == (0, "")
    rows = lines_of(project.folder / "out/rows.jsonl")
    assert all(row.pop("seen") for row in rows)
    assert rows == [exactly(row) for row in case.rows]


@pytest.mark.parametrize(("title", "ending"), ids(Refused))
def test_what_is_refused(
    project: Project, run: Callable[..., Ended], title: str, ending: str
) -> None:
    case = CASES[title][ending]
    assert isinstance(case, Refused)
    if ending == "rows":
        name, source = "spec.yaml", f"rows: {case.data.decode()}"
    else:
        name, source = f"data.{ending}", f"path: data.{ending}"
        (project.folder / name).write_bytes(case.data)
    project.write("spec.yaml", spec(source))
    code, said = run()
    assert code == 2
    says = name + case.says if case.says.startswith(":") else case.says
    assert says in said.split("Hint:")[0]
    assert project.asked() == []
    assert not (project.folder / "out").exists()


# ------------------------------------------------------------------ the files


def refuse(project: Project, run: Callable[..., Ended], source: str, *options: str) -> str:
    """Runs what must be refused; gives the words."""
    project.write("spec.yaml", spec(source))
    code, said = run(*options)
    assert (code, project.asked()) == (2, [])
    assert "Hint: " in said
    return said


def test_a_packed_file_that_is_cut_off(project: Project, run: Callable[..., Ended]) -> None:
    for packing in (".gz", ".zst"):
        path = project.folder / f"data.jsonl{packing}"
        path.write_bytes(PACKERS[packing](b'{"text": "x"}\n' * 1000)[:-3])
        said = refuse(project, run, f"path: {path.name}")
        assert said.startswith(f"{path.name}: the compressed data is cut off\n")


def test_a_packed_file_of_several_parts(project: Project, run: Callable[..., Ended]) -> None:
    for packing in (".gz", ".zst"):
        parts = [PACKERS[packing](b'{"text": "%d"}\n' % number) for number in range(3)]
        (project.folder / f"data.jsonl{packing}").write_bytes(b"".join(parts))
    project.write("spec.yaml", spec("path: data.*"))
    assert run() == (0, "")
    assert [row["text"] for row in project.output("out/rows.jsonl")] == ["0", "1", "2"] * 2


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_unpacks_to_a_thousand_times_its_size(
    project: Project, packing: str
) -> None:
    path = project.folder / f"data.txt{packing}"
    path.write_bytes(PACKERS[packing](b"x" * 40_000_000 + b"\0" * 60_000_000))
    assert path.stat().st_size < 110_000
    project.write("spec.yaml", spec(f"path: {path.name}"))
    ended = measured(project)
    assert (ended.code, project.asked()) == (2, [])
    assert f"{path.name}:1: the record is longer than 64 MiB\nHint: split it" in ended.said
    assert ended.peak_mb < 300, ended


class Measured(NamedTuple):
    """What a process has left behind."""

    code: int
    said: str
    peak_mb: int


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def measured(project: Project) -> Measured:
    """`gptflow run spec.yaml` to its end, with its peak of memory.

    A process inherits the peak of the one that starts it, so that a small one stands between.
    """
    run = [sys.executable, "-m", "gptflow", "run", "spec.yaml", "-q"]
    command = [sys.executable, "-c", MEASURE, *run]
    done = subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, timeout=120, check=True
    )
    code, peak_mb = map(int, done.stdout.split()[-2:])
    return Measured(code, done.stderr, peak_mb)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("data.jsonl", b'[{"a": 1}]', "data.jsonl:1: expected a JSON object, found an array"),
        ("data.json", b'{"a": 1}\n{"a": 2}\n', "data.json:1: expected a JSON array, found '{'"),
        ("data.jsonl", PACKERS[".gz"](b"{}"), "data.jsonl: looks like gzip data"),
        ("data.csv", PACKERS[".zst"](b"{}"), "data.csv: looks like Zstandard data"),
        ("data.csv.gz", b"a,b\n1,2\n", "data.csv.gz: cannot be read: Not a gzipped file"),
        ("data.csv.zst", b"a,b\n1,2\n", "data.csv.zst: cannot be read: zstd decompress"),
        ("data.csv", b"PK\x03\x04rest", "data.csv: looks like a zip archive or a spreadsheet"),
        ("data.jsonl", b"PAR1rest", "data.jsonl: looks like a Parquet file"),
        ("data.csv", b"SQLite format 3\0rest", "data.csv: looks like an SQLite database"),
        (
            "data.csv",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "data.csv: looks like a Git LFS pointer",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says(
    project: Project, run: Callable[..., Ended], name: str, data: bytes, says: str
) -> None:
    (project.folder / name).write_bytes(data)
    assert refuse(project, run, f"path: {name}").startswith(says)


def test_a_folder_in_place_of_a_file(project: Project, run: Callable[..., Ended]) -> None:
    (project.folder / "data.jsonl").mkdir()
    assert "'data.jsonl' is a folder" in refuse(project, run, "path: data.jsonl")


def test_a_pipe_in_place_of_a_file(project: Project, run: Callable[..., Ended]) -> None:
    os.mkfifo(project.folder / "data.jsonl")
    assert "data.jsonl: is not a regular file" in refuse(project, run, "path: data.jsonl")


def test_a_file_that_is_not_there(project: Project, run: Callable[..., Ended]) -> None:
    assert "there is no file 'data.jsonl'" in refuse(project, run, "path: data.jsonl")
    assert "no file matches '*.jsonl'" in refuse(project, run, 'path: "*.jsonl"')
    project.write("a.jsonl", '{"a": 1}')
    (project.folder / "b.jsonl").symlink_to("gone.jsonl")
    assert "there is no file 'b.jsonl'" in refuse(project, run, 'path: "*.jsonl"')


def test_odd_data_from_standard_input(project: Project) -> None:
    project.write("spec.yaml", spec('path: "-"'))
    rows = [b'\xef\xbb\xbf{"a": 1.10}\r\n', b'\n{"a": "\\ud800"}', b'\n{"a": 1, "a": 2}']
    for lines, code in ((rows[:2], 0), (rows, 2)):
        (project.folder / "data").write_bytes(b"".join(lines))
        with (project.folder / "data").open("rb") as stdin:
            said = project.gptflow("run", "spec.yaml", "-q", stdin=stdin, code=code)
    assert "stdin:4: an object has the name 'a' twice" in said
    first, second = lines_of(project.folder / "out/rows.jsonl")
    assert (first["a"], second["a"]) == (Number("1.10"), "\ud800")
    assert len(project.asked()) == 2


# ------------------------------------------------------------------ ids


def test_an_id_that_two_rows_have(project: Project, run: Callable[..., Ended]) -> None:
    project.write("data.jsonl", '{"id": 1}\n{"id": 2}\n{"id": 1.0}\n{"id": 2, "a": 3}\n')
    said = refuse(project, run, "{path: data.jsonl, id: id}")
    assert "data.jsonl:4 has the id of data.jsonl:2" in said
    assert said.count("has the id of") == 1


def test_a_row_without_its_id(project: Project, run: Callable[..., Ended]) -> None:
    project.write("data.jsonl", '{"id": 0}\n{"ID": 1}\n')
    said = refuse(project, run, "{path: data.jsonl, id: id}")
    assert said.startswith("data.jsonl:2: the record has no column 'id', which source.id names")


def test_an_id_that_is_null_or_empty(project: Project, run: Callable[..., Ended]) -> None:
    project.write("data.jsonl", '{"id": null}\n{"id": ""}\n{"id": null}\n')
    said = refuse(project, run, "{path: data.jsonl, id: id}")
    assert "data.jsonl:3 has the id of data.jsonl:1" in said


def test_ids_of_several_types(project: Project, run: Callable[..., Ended]) -> None:
    ids = ["1", "1.0", '"1"', "true", "null", '""', "[1]", "9007199254740993", "9007199254740992"]
    project.write("data.jsonl", "".join(f'{{"id": {id_}}}\n' for id_ in ids))
    project.write("spec.yaml", spec("{path: data.jsonl, id: id}"))
    assert run() == (0, "")
    found = [row["id"] for row in lines_of(project.folder / "out/rows.jsonl")]
    assert found == [exactly(id_) for id_ in ids]


# ------------------------------------------------------------------ while the run goes on

ROWS = 30
ROW_BYTES = 60_000
"""More than a few of these are not read ahead."""
CHANGED_AT = 5
"""The request at which the file is changed: the run has read some rows beyond it, and not all."""


def asking_text(path: str) -> str:
    """A spec that asks with the text of the row, one row at a time."""
    return spec(f"path: {path}", concurrency=1).replace("It has", "{{ text[:9] }} has")


def row(number: int, word: str = "row") -> str:
    text = f"{word} {number:02}".ljust(ROW_BYTES, ".")
    return f'{{"text": "{text}"}}\n'


class Changing:
    """A folder with data.jsonl, and a server in whose sight the data is changed."""

    def __init__(self, project: Project, run: Callable[..., Ended]) -> None:
        self._project = project
        self._run = run
        self.path = project.folder / "data.jsonl"
        self.path.write_text("".join(map(row, range(ROWS))))
        project.write("spec.yaml", asking_text("data.jsonl"))

    def run(self, change: Callable[[], object] = lambda: None) -> tuple[int, str, list[str]]:
        """Runs once; the exit code, what was said, and the rows that were asked."""
        asked: list[str] = []

        def hear(entry: LogEntry) -> None:
            asked.append(str(entry.user)[:9].rstrip("."))
            if len(asked) == CHANGED_AT:
                change()

        with MockServer(Scenario.model_validate({"reply": "echo"}), on_request=hear) as server:
            self._project.write_config("sk-test-1234567890", base_url=server.base_url)
            code, said = self._run()
        return code, said, asked

    def rows(self) -> list[str]:
        """The rows of the output."""
        found = self._project.output("out/rows.jsonl")
        assert all(row["seen"].startswith(row["text"][:9]) for row in found)
        return [row["text"].rstrip(".") for row in found]


def named(*numbers: int, word: str = "row") -> list[str]:
    return [f"{word} {number:02}" for number in numbers]


@pytest.fixture
def changing(project: Project, run: Callable[..., Ended]) -> Changing:
    return Changing(project, run)


def test_rows_are_appended(changing: Changing) -> None:
    def append() -> None:
        with changing.path.open("a") as file:
            file.writelines(map(row, range(ROWS, ROWS + 3)))

    assert changing.run(append) == (0, "", named(*range(ROWS)))
    assert changing.rows() == named(*range(ROWS))
    assert changing.run() == (0, "", named(*range(ROWS, ROWS + 3)))
    assert changing.rows() == named(*range(ROWS + 3))


def test_the_last_line_goes_on(changing: Changing, project: Project) -> None:
    changing.path = project.folder / "data.txt"
    lines = [name.ljust(ROW_BYTES, ".") for name in named(*range(ROWS))]
    changing.path.write_text("\n".join(lines))
    project.write("spec.yaml", asking_text("data.txt"))

    def append() -> None:
        with changing.path.open("a") as file:
            file.write("!\n")

    code, said, asked = changing.run(append)
    assert (code, asked) == (2, named(*range(ROWS - 1)))
    assert f"the source changed since the run began: data.txt:{ROWS} is another row" in said
    assert changing.run() == (0, "", named(ROWS - 1))
    assert project.output("out/rows.jsonl")[-1]["text"].endswith(".!")


def test_rows_are_overwritten_with_the_same_size_and_time(changing: Changing) -> None:
    def overwrite() -> None:
        before = changing.path.stat()
        with changing.path.open("r+") as file:
            file.seek(25 * len(row(0)))
            file.write(row(25, "new"))
        os.utime(changing.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    code, said, asked = changing.run(overwrite)
    assert (code, asked) == (2, named(*range(25)))
    assert "the source changed since the run began: data.jsonl:26 is another row" in said
    assert "Hint: run the same command again" in said
    code, said, asked = changing.run()
    assert (code, said, asked) == (0, "", ["new 25", *named(*range(26, ROWS))])
    assert changing.rows() == [*named(*range(25)), "new 25", *named(*range(26, ROWS))]


def test_rows_are_overwritten_after_the_run_with_the_same_size_and_time(
    changing: Changing,
) -> None:
    changing.run()
    before = changing.path.stat()
    with changing.path.open("r+") as file:
        file.write(row(0, "new"))
    os.utime(changing.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changing.run() == (0, "", ["new 00"])
    assert changing.rows() == ["new 00", *named(*range(1, ROWS))]


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (25 * len(row(0)), "it has fewer records"),
        (25 * len(row(0)) + 100, "data.jsonl:26: not valid JSON: unterminated string"),
    ],
)
def test_the_file_is_cut_off(changing: Changing, at: int, says: str) -> None:
    code, said, asked = changing.run(lambda: os.truncate(changing.path, at))
    assert (code, asked) == (2, named(*range(25)))
    assert f"the source changed since the run began: {says}" in said
    os.truncate(changing.path, 25 * len(row(0)))
    assert changing.run() == (0, "", [])
    assert changing.rows() == named(*range(25))


def test_another_file_takes_its_name(changing: Changing) -> None:
    def replace() -> None:
        new = changing.path.with_name("new")
        new.write_text("".join(row(number, "new") for number in range(ROWS)))
        new.replace(changing.path)

    assert changing.run(replace) == (0, "", named(*range(ROWS)))
    assert changing.rows() == named(*range(ROWS))
    assert changing.run() == (0, "", named(*range(ROWS), word="new"))


def test_the_file_is_removed(changing: Changing) -> None:
    assert changing.run(changing.path.unlink) == (0, "", named(*range(ROWS)))
    assert changing.rows() == named(*range(ROWS))


def test_a_later_file_is_removed(changing: Changing, project: Project) -> None:
    project.write("later.jsonl", row(ROWS))
    project.write("spec.yaml", asking_text("[data.jsonl, later.jsonl]"))
    code, said, asked = changing.run((project.folder / "later.jsonl").unlink)
    assert (code, asked) == (2, named(*range(ROWS)))
    assert "the source changed since the run began: later.jsonl: no such file" in said
    project.write("later.jsonl", row(ROWS))
    assert changing.run() == (0, "", named(ROWS))


def test_a_pattern_gains_a_file(changing: Changing, project: Project) -> None:
    project.write("spec.yaml", asking_text('"*.jsonl"'))
    assert changing.run(lambda: project.write("a.jsonl", row(0, "new")))[2] == named(*range(ROWS))
    assert changing.rows() == named(*range(ROWS))
    assert changing.run() == (0, "", ["new 00"])
    assert changing.rows() == ["new 00", *named(*range(ROWS))]


def test_a_number_changes_in_its_thirtieth_digit(
    project: Project, run: Callable[..., Ended]
) -> None:
    project.write("spec.yaml", spec("path: data.jsonl"))
    for number in ("0.1", "0.100000000000000000000000000001"):
        project.write("data.jsonl", f'{{"a": {number}}}')
        assert run() == (0, "")
        (row,) = lines_of(project.folder / "out/rows.jsonl")
        assert row["a"] == Number(number)


def test_rows_change_places_between_two_runs(changing: Changing) -> None:
    changing.run()
    changing.path.write_text("".join(map(row, reversed(range(ROWS)))))
    assert changing.run() == (0, "", [])
    assert changing.rows() == named(*reversed(range(ROWS)))


# ------------------------------------------------------------------ sizes

LONG = ("word " * 4_000_000)[:-1] + "."
"""A text of 20 MB."""


def test_a_row_of_20_mb(project: Project) -> None:
    project.write("data.jsonl", f'{{"text": "{LONG}"}}')
    project.write("data.csv", f"text\n{LONG}\n")
    asking = spec("path: [data.jsonl, data.csv]").replace("row | length", "text[:9]")
    project.write("spec.yaml", asking)
    ended = measured(project)
    assert (ended.code, ended.said) == (0, "")
    assert ended.peak_mb < 500, ended  # two of them at once
    assert [row["text"] == LONG for row in project.output("out/rows.jsonl")] == [True] * 2
    project.gptflow("export", ".gptflow/odd.db", "-o", "rows.csv")
    assert [text == LONG for text, _ in cells_of(project.folder / "rows.csv")[1:]] == [True] * 2


def test_a_prompt_of_20_mb(project: Project, run: Callable[..., Ended]) -> None:
    project.write("data.txt", LONG)
    project.write("spec.yaml", spec("path: data.txt").replace("It has", "{{ text }} has"))
    assert run()[0] == 1
    assert project.asked() == []
    (failed,) = project.output("out/rows.failed.jsonl")
    assert "longer than 20,000,000 characters" in failed["error"]["message"]
    assert failed["row"]["text"] == LONG


def test_100_000_columns(project: Project, run: Callable[..., Ended]) -> None:
    names = [f"column {number}" for number in range(100_000)]
    project.write("data.jsonl", json.dumps(dict.fromkeys(names, 1)))
    project.write("data.csv", f"{','.join(names)}\n{','.join('1' * len(names))}\n")
    said = refuse(project, run, "{path: data.csv, id: colum}")
    assert "it has column 0, column 1" in said
    assert len(said) < 1000
    project.write("spec.yaml", spec("path: [data.jsonl, data.csv]"))
    ended = measured(project)
    assert (ended.code, ended.said) == (0, "")
    assert ended.peak_mb < 250, ended
    first, second = project.output("out/rows.jsonl")
    assert first.pop("seen") == second.pop("seen") == "It has 100000 columns."
    assert (first, second) == (dict.fromkeys(names, 1), dict.fromkeys(names, "1"))


@pytest.mark.parametrize(
    ("ending", "start", "says"),
    [
        ("jsonl", '{}\n{"a": "', ":2: the record is longer than 64 MiB\n"),
        ("json", '[{},\n{"a": "', ":2: the record is longer than 64 MiB\n"),
        ("csv", "a,b\n1,", ":2: the record is longer than 64 MiB\n"),
        ("tsv", 'a\n1\n"x\ny\n', ":3: the record is longer than 64 MiB, or a quote in it is never"),
        ("txt", "x\n", ":2: the record is longer than 64 MiB\n"),
    ],
)
def test_a_record_of_more_than_64_mib(
    project: Project, run: Callable[..., Ended], ending: str, start: str, says: str
) -> None:
    filler = "word " * 19 + ("word\n" if ending == "tsv" else "word ")
    data = (start + filler * 850_000).encode()
    (project.folder / f"data.{ending}.zst").write_bytes(PACKERS[".zst"](data))
    said = refuse(project, run, f"path: data.{ending}.zst")
    assert said.startswith(f"data.{ending}.zst{says}")


# ------------------------------------------------------------------ prompts


def test_odd_text_in_a_prompt(project: Project, run: Callable[..., Ended]) -> None:
    odd = [SEPARATORS, CODE, "x\0y\r\nz\r", "\n  x \n\n", '"quoted" \\n', "größe 日本 \U0001f600"]
    project.write_rows([{"text": text} for text in odd], "data.jsonl")
    project.write("spec.yaml", spec("path: data.jsonl").replace("It has", "{{ text }}|has"))
    assert run() == (0, "")
    assert {asked.rpartition("|")[0] for asked in project.asked()} == set(odd)
    assert [row["text"] for row in lines_of(project.folder / "out/rows.jsonl")] == odd


def test_half_of_a_surrogate_pair_in_a_prompt(project: Project, run: Callable[..., Ended]) -> None:
    project.write("data.jsonl", '{"text": "x\\ud800y"}\n{"text": "z"}\n')
    project.write("spec.yaml", spec("path: data.jsonl").replace("It has", "{{ text }} has"))
    assert run()[0] == 1
    assert len(project.asked()) == 1
    (failed,) = lines_of(project.folder / "out/rows.failed.jsonl")
    assert "half of a surrogate pair" in failed["error"]["message"]
    assert failed["row"]["text"] == "x\ud800y"


def test_a_name_of_jinja_s_own_in_a_prompt(project: Project, run: Callable[..., Ended]) -> None:
    names = ["__class__", "items", "range", "dict", "loop", "_", "if", "none", "true", "a.b"]
    project.write_rows([{name: f"<{name}>" for name in names}], "data.jsonl")
    prompt = "".join(f"{{{{ row['{name}'] }}}}" for name in names)
    prompt += "{{ row.items }}{{ row.__class__ }}{{ range }}{{ loop }}{{ __class__ }}"
    project.write("spec.yaml", spec("path: data.jsonl").replace("It has", prompt))
    assert run() == (0, "")
    (asked,) = project.asked()
    shown = [*names, "items", "__class__", "range", "loop", "__class__"]
    assert asked.startswith("".join(f"<{name}>" for name in shown))
