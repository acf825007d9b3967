from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptflow.cli.main import VERBS, main
from tests.cli.conftest import Gptflow

GPTFLOW = [sys.executable, "-m", "gptflow"]


def test_help_lists_every_verb_in_order(gptflow: Gptflow) -> None:
    said = gptflow("--help")
    assert (said.code, said.err) == (0, "")
    places = [said.out.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)
    assert "Exit codes:" in said.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(gptflow: Gptflow, verb: str) -> None:
    said = gptflow(verb, "-h")
    assert said.code == 0
    assert f"\n  gptflow {verb}" in said.out
    assert "--debug" in said.out


def test_help_loads_nothing_that_is_slow() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "gptflow", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in told.splitlines()}
    heavy = {"openai", "pydantic", "rich", "jinja2", "msgspec", "yaml", "asyncio", "sqlite3"}
    assert "click" in loaded
    assert loaded & heavy == set()


def test_the_version_is_told(gptflow: Gptflow) -> None:
    assert re.fullmatch(r"gptflow \d+\.\d+\.\d+\n", gptflow("--version").out)


def test_without_a_verb_the_help_is_shown_as_a_mistake(gptflow: Gptflow) -> None:
    said = gptflow()
    assert said.code == 2
    assert "Verbs:" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rnu",), "there is no verb 'rnu'. Did you mean 'run'?"),
        (("qqq",), f"there is no verb 'qqq'. There are {', '.join(VERBS)}."),
        (("run",), "Missing argument 'SPEC'"),
        (("run", "spec.yaml", "--bogus"), "No such option '--bogus'"),
        (("run", "spec.yaml", "--retry", "all"), "'all' is not one of 'failed', 'truncated'"),
        (("run", "spec.yaml", "--mock", "--local"), "--mock and --local exclude each other"),
        (("run", "spec.yaml", "--mock", "--config", "c"), "--config and --mock exclude each"),
    ],
)
def test_a_wrong_command_line_is_told(
    gptflow: Gptflow, arguments: tuple[str, ...], words: str
) -> None:
    said = gptflow(*arguments)
    assert (said.code, said.out) == (2, "")
    assert words in " ".join(said.err.split())


# ------------------------------------------------------------------ errors


def test_a_mistake_shows_its_traceback_only_where_it_is_wanted(gptflow: Gptflow) -> None:
    plain = gptflow("run", "none.yaml")
    assert plain.code == 2
    assert "Traceback" not in plain.err
    debugged = gptflow("run", "none.yaml", "--debug")
    assert debugged.code == 2
    assert debugged.err.startswith("Traceback")
    assert "there is no file none.yaml" in debugged.err


class Careless(Exception):
    """Stands for any bug."""


class BrokenStream(io.StringIO):
    """No bug is known, so one is made: writing fails as nothing should."""

    def write(self, text: str) -> int:
        raise Careless(f"sk-canary-1234567890 {text[:10]}")


def test_a_bug_is_told_with_a_report_that_holds_no_values(
    gptflow: Gptflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", BrokenStream())
    said = gptflow("schema")
    assert said.code == 4
    assert said.err.startswith("this is a bug in gptflow: Careless")
    assert "Traceback" not in said.err
    found = re.search(r"A report is in (\S+)", said.err)
    assert found
    report = Path(found[1])
    text = report.read_text()
    report.unlink()
    assert "sk-canary" not in text
    assert "Careless" in text
    assert re.search(r"schema\.py:\d+ in command", text)
    assert str(Path.home()) not in text


def test_a_bug_shows_its_traceback_where_it_is_wanted(
    gptflow: Gptflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", BrokenStream())
    said = gptflow("schema", "--debug")
    assert said.code == 4
    assert "Traceback" in said.err


def test_ctrl_c_before_a_run_has_begun(folder: Path) -> None:
    process = subprocess.Popen(
        [*GPTFLOW, "run", "spec.yaml", "--mock", "--set", "source.path=-"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    spooled = folder / ".gptflow/stdin"
    deadline_s = time.monotonic() + 10
    while not spooled.exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=10)
    out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


# ------------------------------------------------------------------ standard output


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv"])
def test_a_reader_that_has_seen_enough_is_no_failure(
    gptflow: Gptflow, folder: Path, file_format: str
) -> None:
    long_row = json.dumps({"text": "x" * 2_000}) + "\n"
    (folder / "reviews.jsonl").write_text(long_row * 300)
    assert gptflow("run", "spec.yaml", "--mock").code == 0
    reading, writing = os.pipe()
    command = [*GPTFLOW, "export", "reviews", "--format", file_format]
    process = subprocess.Popen(
        command, cwd=folder, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert os.read(reading, 10)
    os.close(reading)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_json_of_a_run_stands_alone_on_standard_output(gptflow: Gptflow) -> None:
    said = gptflow("run", "spec.yaml", "--mock", "--json")
    assert json.loads(said.out)["done"] == 3
    assert said.err.startswith("reviews: 3 rows")


def test_quiet_shows_no_progress(gptflow: Gptflow) -> None:
    said = gptflow("run", "spec.yaml", "--mock", "-q")
    assert said.err == ""
    assert said.out.startswith("simulated, nothing was asked: done 3")


def test_main_ends_the_process(gptflow: Gptflow) -> None:
    del gptflow
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
