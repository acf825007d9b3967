from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.cli.conftest import Gptflow

FULL = "standard output cannot be written: no space left on device\n"
CLOSED = "standard output cannot be written: it is closed\n"
HINT = "Hint: run it again with another place for its output; what is done is stored\n"


@pytest.fixture
def ran(gptflow: Gptflow, folder: Path) -> Path:
    """The folder with the store of a rehearsal that has ended."""
    assert gptflow("run", "spec.yaml", "--mock").code == 0
    return folder


def told(folder: Path, command: str, unbuffered: str = "") -> tuple[int, str]:
    """The exit code of a command of a shell, and what it says on standard error."""
    said = subprocess.run(
        ["bash", "-c", f'PYTHONUNBUFFERED={unbuffered} "{sys.executable}" -m gptflow {command}'],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return said.returncode, said.stderr


@pytest.mark.parametrize(("place", "words"), [(">/dev/full", FULL), (">&-", CLOSED)])
@pytest.mark.parametrize(
    "command", ["run spec.yaml --mock --json -q", "export reviews", "runs --json"]
)
def test_a_result_that_cannot_be_written_is_a_failure(
    ran: Path, command: str, place: str, words: str
) -> None:
    assert told(ran, f"{command} {place}") == (2, words + HINT)


@pytest.mark.parametrize(("place", "words"), [(">/dev/full", FULL), (">&-", CLOSED)])
@pytest.mark.parametrize("command", ["validate spec.yaml --json", "keys --json"])
def test_findings_that_cannot_be_written_are_a_failure(
    folder: Path, command: str, place: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MockServer(Scenario()) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert told(folder, f"{command} {place}") == (2, words + HINT)


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv"])
def test_an_export_is_never_called_whole_where_it_is_not(ran: Path, file_format: str) -> None:
    said = told(ran, f"export reviews --format {file_format} >/dev/full", unbuffered="1")
    assert said == (2, FULL + HINT)


@pytest.mark.parametrize(("place", "words"), [(">/dev/full", FULL), (">&-", CLOSED)])
def test_a_report_that_cannot_be_written_is_told_and_no_failure(
    ran: Path, place: str, words: str
) -> None:
    assert told(ran, f"run spec.yaml --mock -q {place}") == (0, words)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_told_once(ran: Path, unbuffered: str) -> None:
    assert told(ran, "runs >/dev/full", unbuffered) == (2, FULL)


def test_a_file_for_an_export_needs_no_standard_output(ran: Path) -> None:
    code, said = told(ran, "export reviews -o rows.csv >&-")
    assert (code, said) == (0, "run 1 (mock): simulated\n3 rows\n")
    assert len((ran / "rows.csv").read_text().splitlines()) == 4
