from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gptflow.cli.main import VERBS, main
from gptflow.cli.run_report import command_line, report
from gptflow.errors import UsageError
from gptflow.runner.server import ServerChoice
from gptflow.runner.summary import Ending, RunSummary
from tests.cli.conftest import Gptflow

GPTFLOW = [sys.executable, "-m", "gptflow"]


def test_help_lists_every_verb_in_order(gptflow: Gptflow) -> None:
    said = gptflow("--help")
    assert (said.code, said.err) == (0, "")
    places = [said.out.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)
    words = " ".join(said.out.split())
    assert "3 stopped by a limit, no usable key, no server that answers, or first calls" in words


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
        (("run", "a.yaml", "b.yaml"), "one SPEC, and these are several: 'a.yaml' and 'b.yaml'"),
        (("run", "--local", "model.bin", "spec.yaml"), "a model for --local is a .gguf file"),
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
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "interrupted; the same command goes on from there"


class Signalled(io.StringIO):
    """Takes what is written, and a signal in the midst of it comes to nothing, or to a bug."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        if self._error is not None:
            raise self._error from None
        return super().write(text)


@pytest.mark.parametrize(
    "error",
    [None, Careless("wrapped"), UsageError("wrapped"), OSError("wrapped"), SystemExit(1)],
    ids=["swallowed", "a bug", "a mistake", "an error of the system", "an exit"],
)
@pytest.mark.parametrize("more", [(), ("--debug",)], ids=["", "debug"])
def test_a_signal_is_one_whatever_is_made_of_it(
    gptflow: Gptflow,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    more: tuple[str, ...],
) -> None:
    monkeypatch.setattr(sys, "stdout", Signalled(error))
    said = gptflow("schema", *more)
    assert (said.code, said.err) == (143, "interrupted by SIGTERM\n")


DURING_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Finder())
from gptflow.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_may_come_as_the_program_is_imported(number: signal.Signals) -> None:
    command = [sys.executable, "-c", DURING_IMPORT, str(int(number))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    name = "" if number == signal.SIGINT else f" by {number.name}"
    assert (said.returncode, said.stdout, said.stderr) == (128 + number, "", f"interrupted{name}\n")


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


FAILING = ("--set", "steps.label.prompt='{{ 1 / (id - 2) }}'")
"""Makes the second of three rows fail."""


def in_shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """What a script comes to in bash, where `gptflow` is the real program."""
    program = f'gptflow() {{ "{sys.executable}" -m gptflow "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", program + script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "pipe", ["--json 2>&1 | true", "--json | true", "| true", "> /dev/full", "> /dev/full 2>&1"]
)
def test_a_run_that_nobody_reads_of_keeps_its_exit_code(folder: Path, pipe: str) -> None:
    command = f"gptflow run spec.yaml --mock {shlex.join(FAILING)} {pipe}"
    said = in_shell(folder, f"{command}; echo ${{PIPESTATUS[0]}}")
    assert said.stdout == "1\n"
    assert "Traceback" not in said.stderr
    assert len((folder / "out/labels.simulated.jsonl").read_text().splitlines()) == 2


def test_a_mistake_that_nobody_reads_of_keeps_its_exit_code(folder: Path) -> None:
    said = in_shell(folder, "gptflow run none.yaml 2>&1 | true; echo ${PIPESTATUS[0]}")
    assert (said.stdout, said.stderr) == ("2\n", "")


def test_an_output_that_is_full_is_told(folder: Path) -> None:
    said = in_shell(folder, "gptflow schema > /dev/full")
    assert said.returncode == 2
    assert said.stderr == "standard output cannot be written: no space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("verb", ["run --mock", "validate", "preview", "runs"])
def test_streams_that_are_closed_are_no_failure(folder: Path, verb: str, closed: str) -> None:
    spec = "" if verb == "runs" else "spec.yaml"
    code = 2 if verb == "runs" else 0  # there is no store yet
    said = in_shell(folder, f"gptflow {verb} {spec} {closed}")
    assert said.returncode == code, said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no ulimit")
def test_a_disk_that_takes_nothing_is_told(folder: Path) -> None:
    said = in_shell(folder, "(ulimit -f 0; gptflow run spec.yaml --mock 2>&1 | cat)")
    assert said.returncode == 2, said.stdout
    assert "reviews.db.lock: File too large\nHint: make room" in said.stdout


def test_a_bug_is_told_where_no_report_can_be_written(
    gptflow: Gptflow, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "none"))
    monkeypatch.setattr(sys, "stdout", BrokenStream())
    said = gptflow("schema")
    assert said.code == 4
    assert "No report could be written: No such file or directory" in said.err


# ------------------------------------------------------------------ the report


def test_the_next_command_is_the_same_command_with_a_retry(gptflow: Gptflow, folder: Path) -> None:
    (folder / "my spec.yaml").write_text((folder / "spec.yaml").read_text())
    (folder / "s.yaml").write_text("{}\n")
    given = ["my spec.yaml", "--scenario", "s.yaml", "--store", "a b.db", *FAILING]
    said = gptflow("run", "--fresh", "--quiet", *given)
    assert said.code == 1
    following = said.out.splitlines()[-1].removeprefix("next: ")
    words = shlex.split(following)
    assert words[:2] == ["gptflow", "run"]
    assert sorted(words[2:]) == sorted([*given, "--retry", "failed"])
    retried = gptflow(*words[1:])
    assert retried.code == 1
    assert "asks 1 row again" in retried.err
    assert retried.out.splitlines()[-1] == f"next: {following}"


def test_the_next_command_names_who_is_asked() -> None:
    spec, weights = Path("a.yaml"), Path("b c.GGUF")
    local = ServerChoice(local=True, weights=weights)
    assert command_line(spec, local, (), None)[3:] == ["--local", "b c.GGUF"]
    assert command_line(spec, ServerChoice(local=True), (), None)[3:] == ["--local"]
    paid = ServerChoice(config=Path("keys.json"))
    assert command_line(spec, paid, (), None)[3:] == ["--config", "keys.json"]


def test_an_interrupted_rehearsal_says_both() -> None:
    summary = RunSummary(
        run=1,
        name="reviews",
        status=Ending.INTERRUPTED,
        rows=3,
        done=1,
        failed=0,
        cost_usd=0.0,
        wall_s=1.0,
        output=Path("out.jsonl"),
        store=Path("reviews.db"),
        server="mock",
        calls=1,
        reused_calls=0,
        reused_rows=0,
        prompt_tokens=0,
        completion_tokens=0,
    )
    first, last = report(summary, ["gptflow", "run", "a b.yaml", "--mock"]).splitlines()
    assert first.startswith("interrupted; simulated, nothing was asked: done 1, failed 0, to do 2")
    assert last == "next: gptflow run 'a b.yaml' --mock   # goes on where this stopped"


def test_weights_are_known_by_their_ending_in_any_case(gptflow: Gptflow) -> None:
    said = gptflow("run", "--local", "none.GGUF", "spec.yaml")
    assert said.code == 2
    assert "none.GGUF" in said.err


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
